package attention

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// MeanPool is block-sparse attention whose blocks are scored by their means, the baseline of arXiv 2510.21270: PBS without
// permutation and without segments. For query block a the candidates are all key blocks b up to a, its own included:
// p_ab = softmax_b(q̄_a·k̄_b/√d) over b <= a. Kept are the fewest that reach tau, the block of key 0 and the block itself.
type MeanPool struct {
	Block   int
	Tau     float64
	Density float64 // as in PBS
}

func (s *settings) meanPool() MeanPool {
	return MeanPool{Block: s.integer("block", 128, 16, kernels.MaxSegment), Tau: s.fraction("tau", 0.9), Density: s.fraction("density", 0)}
}

// String returns all settings.
func (m MeanPool) String() string {
	spec := fmt.Sprintf("meanpool:block=%d,tau=%s", m.Block, number(m.Tau))
	if m.Density > 0 {
		spec += ",density=" + number(m.Density)
	}
	return spec
}

// Shape completes s: a segment is a block.
func (m MeanPool) Shape(s kernels.PlanShape) kernels.PlanShape {
	s.Block, s.Segment = m.Block, m.Block
	return s
}

func (m MeanPool) dense(first, rows int) bool {
	return first+rows <= m.Block || rows <= m.Block && first > 0
}

// Prefill pools, selects and attends.
func (m MeanPool) Prefill(dev kernels.Device, p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) {
	p.Begin(first, q.Rows())
	if p.Dense = m.dense(first, q.Rows()); p.Dense {
		Full{}.Prefill(dev, nil, out, q, kv, first, spans)
		return
	}
	dev.PoolBlocks(p, q, kv, spans)
	dev.SelectBlocks(p, kernels.Selection{Tau: m.Tau, Own: true, KeepFirst: true, Density: m.Density}, spans)
	dev.AttendBlocks(out, q, kv, p, spans)
}

// Queries are the blocks that meet spans.
func (m MeanPool) Queries(buf []kernels.Span, first, rows int, spans []kernels.Span) []kernels.Span {
	if m.dense(first, rows) {
		return append(buf, spans...)
	}
	return wholeBlocks(buf, m.Block, first, rows, spans, 0)
}
