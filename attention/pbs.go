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
// Defaults are the paper's: B 128, S 256, tau 0.9. A higher tau keeps more. tau of 1 keeps all blocks, and so does a row whose
// sum rounding keeps below tau (the published code then keeps none). Prompts of at most one segment are dense, as decode is.
//
// Where the cache already holds a prefix, the new queries keep their absolute positions and blocks, the last min(B, new) of them
// rank the keys, old and new, and at most B new queries are dense.
type PBS struct {
	Block, Segment int
	Tau            float64
	Permute        bool    // off: keys stay in order, the rest is the same
	First          bool    // always keep the block that holds key 0
	Density        float64 // above 0: keep this share of the causal blocks instead of tau's mass, to measure time
}

func (s *settings) pbs() PBS {
	m := PBS{}
	m.Block, m.Segment = s.blocks(128, 256)
	m.Tau = s.fraction("tau", 0.9)
	m.Permute = s.onOff("permute", true)
	m.First = s.onOff("first", true)
	m.Density = s.fraction("density", 0)
	return m
}

// String returns all settings.
func (m PBS) String() string {
	spec := fmt.Sprintf("pbs:block=%d,segment=%d,tau=%s,permute=%s,first=%s", m.Block, m.Segment, number(m.Tau), onOff(m.Permute), onOff(m.First))
	if m.Density > 0 {
		spec += ",density=" + number(m.Density)
	}
	return spec
}

// Shape completes s.
func (m PBS) Shape(s kernels.PlanShape) kernels.PlanShape {
	s.Block, s.Segment = m.Block, m.Segment
	return s
}

// dense reports whether rows queries at first attend to every key.
func (m PBS) dense(first, rows int) bool {
	return first+rows <= m.Segment || rows <= m.Block && first > 0
}

// Prefill runs the five steps, which fill p but for the last.
func (m PBS) Prefill(dev kernels.Device, p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) {
	p.Begin(first, q.Rows())
	if p.Dense = m.dense(first, q.Rows()); p.Dense {
		Full{}.Prefill(dev, nil, out, q, kv, first, spans)
		return
	}
	if p.Permuted = m.Permute; m.Permute {
		dev.RankKeys(p, q, kv)
		dev.SortKeys(p)
	}
	dev.PoolBlocks(p, q, kv, spans)
	dev.SelectBlocks(p, kernels.Selection{Tau: m.Tau, KeepFirst: m.First, Density: m.Density}, spans)
	dev.AttendBlocks(out, q, kv, p, spans)
}

// Queries are the blocks that meet spans, and the queries that rank.
func (m PBS) Queries(buf []kernels.Span, first, rows int, spans []kernels.Span) []kernels.Span {
	if m.dense(first, rows) {
		return append(buf, spans...)
	}
	rank := 0
	if m.Permute {
		rank = min(m.Block, rows)
	}
	return wholeBlocks(buf, m.Block, first, rows, spans, rank)
}

// wholeBlocks appends spans widened to blocks, and the last rows, to buf; what touches is joined.
func wholeBlocks(buf []kernels.Span, block, first, rows int, spans []kernels.Span, last int) []kernels.Span {
	start := len(buf)
	add := func(s kernels.Span) {
		for n := len(buf); n > start && s.Lo <= buf[n-1].Hi; n-- {
			s = kernels.Span{Lo: min(s.Lo, buf[n-1].Lo), Hi: max(s.Hi, buf[n-1].Hi)}
			buf = buf[:n-1]
		}
		buf = append(buf, s)
	}
	for _, s := range spans {
		if s.Lo == s.Hi {
			continue
		}
		lo, hi := (first+s.Lo)/block*block-first, ((first+s.Hi-1)/block+1)*block-first
		add(kernels.Span{Lo: max(lo, 0), Hi: min(hi, rows)})
	}
	if last > 0 {
		add(kernels.Span{Lo: rows - last, Hi: rows})
	}
	return buf
}
