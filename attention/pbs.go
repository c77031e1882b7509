package attention

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// PBS is Permuted Block-Sparse Attention (PBS-Attn, arXiv 2510.21270).
//
// Block-sparse attention computes, for each block of B queries, only some blocks of B keys. It pays when the keys that matter to
// a block of queries lie in few blocks; in a trained model they are scattered. Attention does not care in what order keys come,
// so PBS reorders them first:
//
//	keys      |  segment 0   |  segment 1   |  segment 2   | tail
//	          | b0 b1 b2 b3  | b4 b5 b6 b7  | b8 b9 ...    |
//	sorted    | ●● ●. .. ..  | ●. .. .. ..  | ●● .. ...    | in order     ● keys with high scores
//
// Keys are sorted inside segments of S positions only (S a multiple of B), so that a key never leaves its segment: for a query
// of a later segment the whole segment lies in the past, in whatever order, and needs no mask. In the query's own
// segment every block is computed and masked by the keys' original positions. Queries, outputs and the cache keep their order:
// K and V are read through the permutation, and nothing needs undoing.
//
// Per layer and per query head (the heads that share a KV head order its keys differently):
//
//  1. Rank. s_j = mean over the last B queries i of softmax_j(q_i·k_j/√d), over all keys j of complete segments, without a
//     causal mask: what the end of the prompt, where the question stands, looks at.
//  2. Sort the keys of each complete segment by s, highest first; equal ones keep their order. The tail is left alone.
//  3. Score. q̄_a and k̄_b are sums over a block divided by B, also where a block is not full; for block b of an
//     earlier segment p_ab = softmax_b(q̄_a·k̄_b/√d).
//  4. Select. Per query block the fewest b, heaviest first, whose p reach tau, the one that crosses it included. Always kept:
//     the block that holds key 0, where attention sinks gather, and the query block's own segment.
//  5. Attend: softmax over the kept keys alone.
//
// Of the causal blocks of six blocks of queries, with segments of two:
//
//	        k0 k1 | k2 k3 | k4 k5
//	q0    | ■  □  |       |            ■ always kept: the own segment, and here k0, to which key 0 was sorted
//	q1    | ■  ■  |       |            □ right of the diagonal, kept too: after sorting it may hold keys of the past
//	q2    | ■  ·  | ■  □  |            ● kept because tau asks for it
//	q3    | ■  ●  | ■  ■  |            · left out
//	q4    | ■  ·  | ●  ·  | ■  □
//	q5    | ■  ·  | ·  ●  | ■  ■
//
// One setting is not the paper's: last=n has the last n query blocks of the prompt, or of the new queries, keep every block. Pooling
// loses a query that seeks one key among the others of its block, and the question that stands at the end is made of such. The end of
// the prompt seldom fills its block, so that last=1 may be a few tokens of it; last=2 holds more than a block of them. It costs n of
// N/B rows of blocks.
//
// Defaults are the paper's: B 128, S 256, tau 0.9, permute on, first on, last 0. A higher tau keeps more, and a tau of 1 keeps all.
// Prompts of at most one segment are dense, as decode is.
//
// Quirks of the published code, kept: ranking looks at keys without a causal mask, and not at those of the tail; means divide by B also
// over the end of the prompt, so that a short last block of keys scores low; "first" follows key 0 to the block it was sorted
// into. Not kept: where rounding leaves a row's sum below tau it keeps none of the row's candidates, and we all of them, so that
// tau=1 is dense attention; its sort is not stable; it wants as many queries as keys.
//
// Where the cache already holds a prefix, the new queries keep their absolute positions and blocks, the last min(B, new) of them
// rank the keys, old and new, and at most B new queries are dense.
type PBS struct {
	Block, Segment int     // tokens
	Tau            float64 // 0 to 1: probability to keep
	Permute        bool    // off: keys stay in order, the rest is the same
	First          bool    // always keep the block that holds key 0
	Last           int     // query blocks at the end of the prompt that keep every block
	Density        float64 // above 0: keep this share of the causal blocks instead of tau's mass, to measure time
}

func (s *settings) pbs() PBS {
	m := PBS{}
	m.Block, m.Segment = s.blocks()
	m.Tau = s.fraction("tau", 0.9)
	m.Permute = s.onOff("permute", true)
	m.First = s.onOff("first", true)
	m.Last = s.last()
	m.Density = s.fraction("density", 0)
	return m
}

// String returns all settings.
func (m PBS) String() string { return m.spec("pbs", "") }

// spec writes the settings, with a variant's own among them.
func (m PBS) spec(name, own string) string {
	return fmt.Sprintf("%s:block=%d,segment=%d,%stau=%s,permute=%s,first=%s%s%s", name, m.Block, m.Segment, own, number(m.Tau), onOff(m.Permute), onOff(m.First), last(m.Last), density(m.Density))
}

// Layout is dense up to a segment.
func (m PBS) Layout() Layout { return Layout{Block: m.Block, Segment: m.Segment, Least: m.Segment} }

// Choose runs steps 1 to 4.
func (m PBS) Choose(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	m.permute(dev, p, q, kv)
	dev.PoolBlocks(p, q, kv)
	dev.SelectBlocks(p, m.rule())
}

// permute runs steps 1 and 2.
func (m PBS) permute(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	if p.Permuted = m.Permute; m.Permute {
		dev.RankKeys(p, q, kv)
		dev.SortKeys(p)
	}
}

// rule is that of step 4.
func (m PBS) rule() kernels.Selection {
	return kernels.Selection{Tau: m.Tau, KeepFirst: m.First, Last: m.Last, Density: m.Density}
}

func (m PBS) unpermuted() (Method, bool) {
	permute := m.Permute
	m.Permute = false
	return m, permute
}
