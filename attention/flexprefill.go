package attention

import (
	"fmt"
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

// FlexPrefill gives every head a pattern and a budget of its own, by its last queries (arXiv 2502.20766).
//
// Per layer and query head, with P the causal softmax of the last B queries over all keys, and means over these queries,
//
//	v_j = mean_i P_ij   of each key            s_δ = mean_i P_i,i-δ   of each distance
//
// a head has one of two patterns of blocks:
//
//	        vertical-slash       query-aware
//	q0    | ■                  | ■                     ■ of the columns and diagonals of blocks that the budget allows: here two
//	q1    | ■  ■               | ■  ■                    of each on the left, and the minimum of one on the right
//	q2    | ■  ■  ■            | ■  ·  ■               ● of all pairs of blocks those with the largest pooled scores
//	q3    | ■  ·  ■  ■         | ■  ●  ·  ■            · left out
//	q4    | ■  ·  ■  ■  ■      | ■  ·  ·  ●  ■
//	q5    | ■  ·  ■  ·  ■  ■   | ■  ●  ·  ·  ·  ■
//
// in these steps:
//
//  1. Pattern. v̂_b, the sum of v over key block b, is compared with what pooling would say, p̂_b = softmax_b(q̄·k̄_b/√d) with q̄ the
//     mean of the last B queries and k̄_b of the block's keys: where √JS(p̂, v̂) < tau, pooling can be trusted, and the head is
//     query-aware; otherwise it is vertical-slash. JS is the Jensen-Shannon divergence.
//  2. Budget. The fewest keys whose v reach gamma, and the fewest distances whose s do, are counted; a 128th of each count, plus one,
//     is how many blocks of keys and how many diagonals of blocks are kept: never fewer than min/B. A query-aware
//     head keeps the minimum.
//  3. Vertical-slash. Block 0 and the main diagonal, then the blocks with the largest v̂ and the diagonals with the largest sums of s.
//  4. Query-aware. To these come, of all pairs (a, b) of query and key blocks, b <= a, weighed by softmax_b(q̄_a·k̄_b/√d), the heaviest
//     whose sum stays within gamma times the number of query blocks: blocks of queries compete for the budget.
//
// Quirks of the published code, kept: the budget counts by 128 whatever B; the block that would pass gamma in step 4 is left out;
// distances are cut into blocks from the far end, so that diagonal o holds distances of about oB±B/2 where the prompt does not
// fill its last block; q̄_a is a sum over B also where the block is not full, k̄_b a true mean. A gamma of 1 keeps all.
// Defaults: B 128, gamma 0.95, tau 0.1, min 1024 tokens.
//
// Up to max(2B, min) keys are dense. New queries over a cached prefix keep their positions and blocks; the last min(B, new) of them are
// looked at, and at most B are dense. Step 4 looks at all query blocks, so that no row can be computed without all queries.
type FlexPrefill struct {
	Block int     // tokens
	Gamma float64 // 0 to 1: share of the mass to keep
	Tau   float64 // distance below which pooled scores are trusted; it is never above √ln 2, so 1 trusts them always
	Min   int     // tokens: every head keeps as many blocks of keys, and diagonals, as hold them
}

func (s *settings) flexPrefill() FlexPrefill {
	return FlexPrefill{
		Block: s.block(), Gamma: s.fraction("gamma", 0.95), Tau: s.number("tau", 0.1),
		Min: s.integer("min", 1024, 1, math.MaxInt32),
	}
}

// String returns all settings.
func (m FlexPrefill) String() string {
	return fmt.Sprintf("flexprefill:block=%d,gamma=%s,tau=%s,min=%d", m.Block, number(m.Gamma), number(m.Tau), m.Min)
}

// Layout has Choose look at all queries, for step 4.
func (m FlexPrefill) Layout() Layout {
	return Layout{Block: m.Block, Segment: m.Block, Lines: true, Least: max(2, m.least()) * m.Block}
}

// least is how many blocks every head keeps.
func (m FlexPrefill) least() int { return (m.Min + m.Block - 1) / m.Block }

// Choose ranks keys and distances, pools and selects, for all query blocks.
func (m FlexPrefill) Choose(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	last := min(m.Block, q.Rows())
	dev.RankLines(p, q, kv, last, float32(1/math.Sqrt(float64(kv.K.Cols()))))
	dev.PoolBlocks(p, q, kv)
	dev.SelectFlex(p, q, last, kernels.Flex{Gamma: m.Gamma, Tau: m.Tau, Least: m.least()})
}
