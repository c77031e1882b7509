package attention

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// MeanPool is block-sparse attention whose blocks are scored by their means, the baseline that PBS-Attn is compared with
// (arXiv 2510.21270): its scores and its selection, without permutation and without segments.
//
//	        k0 k1 k2 k3 k4 k5
//	q0    | ■
//	q1    | ■  ■                   ■ always kept: the block of key 0 and the query block's own
//	q2    | ■  ·  ■                ● kept because tau asks for it
//	q3    | ■  ●  ·  ■             · left out
//	q4    | ■  ·  ·  ●  ■
//	q5    | ■  ·  ●  ·  ·  ■
//
// Per layer and query head, with q̄_a the mean of query block a and k̄_b that of key block b:
//
//	p_ab = softmax_b(q̄_a·k̄_b/√d)    over all b <= a
//
// Query block a keeps the fewest b, heaviest first, whose p reach tau, the one that crosses it included; and block 0 and a. What is
// kept in any case is a candidate like the others: PBS's candidates end before the query's own segment, here its own block
// is one, so that PBS with permute=off and segments of one block is not the same.
//
// Defaults are the paper's: B 128, tau 0.9. A higher tau keeps more, and a tau of 1 keeps all. Prompts of one block are dense, and
// so are at most B new queries over a cached prefix, beyond which they keep their absolute positions and blocks.
//
// Quirks of the published code: a mean divides by B also where the last block is not full, which makes its score
// small, as here; a row whose sum rounding keeps below tau keeps nothing but what is always kept there, and all of it here.
type MeanPool struct {
	Block   int     // tokens
	Tau     float64 // 0 to 1: probability to keep
	Last    int     // query blocks at the end of the prompt that keep every block, as in PBS
	Density float64 // as in PBS
}

func (s *settings) meanPool() MeanPool {
	return MeanPool{Block: s.block(), Tau: s.fraction("tau", 0.9), Last: s.last(), Density: s.fraction("density", 0)}
}

// String returns all settings.
func (m MeanPool) String() string {
	return fmt.Sprintf("meanpool:block=%d,tau=%s%s%s", m.Block, number(m.Tau), last(m.Last), density(m.Density))
}

// Layout has no segments but blocks.
func (m MeanPool) Layout() Layout {
	return Layout{Block: m.Block, Segment: m.Block, Least: m.Block}
}

// Choose pools and selects.
func (m MeanPool) Choose(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	dev.PoolBlocks(p, q, kv)
	dev.SelectBlocks(p, kernels.Selection{Tau: m.Tau, Own: true, KeepFirst: true, Last: m.Last, Density: m.Density})
}
