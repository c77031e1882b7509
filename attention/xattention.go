package attention

import (
	"fmt"
	"math/bits"

	"github.com/pbs-run/pbs-run/kernels"
)

// XAttention is block-sparse attention whose blocks are scored along antidiagonals (arXiv 2503.16428).
//
// The mean of a block hides a single strong key. XAttention looks at every query and key of a block instead, but at only one in
// σ of their pairs: those on antidiagonals. A vertical line or a slash that runs through a σ×σ square meets
// its antidiagonal:
//
//	      k0 k1 k2 k3
//	q0  |  .  .  .  ●
//	q1  |  .  .  ●  .     with σ = 4 the score of this square is q0·k3 + q1·k2 + q2·k1 + q3·k0
//	q2  |  .  ●  .  .
//	q3  |  ●  .  .  .
//
// A strided row r is thus σ queries in reverse order, a strided key c is σ keys in order, and per query head
//
//	A_rc = Σ_t q[rσ+σ-1-t]·k[cσ+t] / (σ√d)      P_r = softmax of A_r over strided keys c <= r
//	w_ab = Σ P_rc over the strided rows r of query block a and the strided keys c of key block b
//
// Always kept are block 0 and the query block's own; what they weigh counts. Then follow the others, heaviest first, until the
// kept ones reach the threshold's share of the row's weight, the one that crosses it included.
//
// Quirks of the published code, kept: positions past the end are zeros, in a last strided key too; in its own square a row sees the
// whole antidiagonal, with pairs whose key is later than the query. Its switches that keep a "sink" and recent blocks
// are off by default and missing here. A threshold of 1 keeps all. Defaults: B 128, σ 8, threshold 0.9.
//
// One more is kept because published masks have it. The published code takes queries in chunks, and in the first one forgets that block 0
// is kept anyway: its weight does not count ahead of the others', and one block more than needed is kept. How long a chunk is
// depends on the prompt: the next power of two, but at most 2²⁸ over it and at least 2048, so that up to 16K tokens are one chunk.
//
// New queries over a cached prefix keep their absolute positions and blocks; positions before them are zeros in the first row.
// Prompts of one block, and at most B new queries, are dense.
type XAttention struct {
	Block, Stride int     // tokens
	Threshold     float64 // 0 to 1: share of the row's weight to keep
}

func (s *settings) xattention() XAttention {
	m := XAttention{Block: s.block(), Threshold: s.fraction("threshold", 0.9)}
	m.Stride = s.stride(m.Block)
	return m
}

// String returns all settings.
func (m XAttention) String() string {
	return fmt.Sprintf("xattention:block=%d,stride=%d,threshold=%s", m.Block, m.Stride, number(m.Threshold))
}

// Layout has no segments but blocks.
func (m XAttention) Layout() Layout {
	return Layout{Block: m.Block, Segment: m.Block, Stride: m.Stride, Least: m.Block}
}

// Choose scores and selects.
func (m XAttention) Choose(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	dev.SelectStrided(p, q, kv, m.Stride, kernels.Selection{Tau: m.Threshold, Own: true, KeepFirst: true, Counted: true, Surplus: xattentionChunk(p.Keys()) / m.Block})
}

// xattentionChunk is how many queries of a prompt over so many keys the published code takes at once.
func xattentionChunk(keys int) int {
	power := 1 << bits.Len(uint(keys-1))
	return max(2048, min(power, 1<<28/power))
}
