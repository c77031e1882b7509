package attention

import "github.com/pbs-run/pbs-run/kernels"

// Prefill computes one layer's causal attention by m: out from q, both [rows, heads·headDim], whose row i stands at position
// first+i, over those of the keys 0..first+i of kv that m chooses, for the rows of spans, which ascend. out may be q
// itself. p has the Shape of m's Layout; nil where that has no block.
func Prefill(dev kernels.Device, m Method, p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) {
	dense := m.Layout().Dense(first, q.Rows())
	if p != nil {
		p.Begin(first, q.Rows())
		p.Dense = dense
	}
	if dense {
		for _, s := range spans {
			dev.Attend(out.Slice(s.Lo, s.Hi), q.Slice(s.Lo, s.Hi), kv, first+s.Lo)
		}
		return
	}
	m.Choose(dev, p, q, kv)
	dev.AttendBlocks(out, q, kv, p, spans)
}

// Queries appends to buf the rows of q that Prefill reads when it is asked for spans: dense attention those alone, other methods
// all, so that what they chose is known for the whole layer.
func Queries(buf []kernels.Span, m Method, first, rows int, spans []kernels.Span) []kernels.Span {
	if m.Layout().Dense(first, rows) {
		return append(buf, spans...)
	}
	return append(buf, kernels.Span{Lo: 0, Hi: rows})
}

// reorderer is a Method that may reorder keys: unpermuted is what it does without, and whether that differs.
type reorderer interface{ unpermuted() (Method, bool) }

// ChooseUnpermuted fills p as Prefill, called with the same arguments, would if m left the keys in their order: what the
// permutation is worth. Where Prefill does not reorder them it reports false and leaves p alone.
func ChooseUnpermuted(dev kernels.Device, m Method, p *kernels.Plan, q kernels.Tensor, kv kernels.KV, first int) bool {
	if m.Layout().Dense(first, q.Rows()) {
		return false
	}
	if d, ok := m.(DenseBelow); ok {
		m = d.Method
	}
	r, ok := m.(reorderer)
	if !ok {
		return false
	}
	if m, ok = r.unpermuted(); !ok {
		return false
	}
	p.Begin(first, q.Rows())
	m.Choose(dev, p, q, kv)
	return true
}
