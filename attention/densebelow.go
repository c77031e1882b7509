package attention

import "github.com/pbs-run/pbs-run/kernels"

// DenseBelow is a method that attends to every key where there are fewer than Tokens of them: in short prompts choosing blocks
// costs more than it saves. Its String is the method's own; Tokens is no setting of a spec.
type DenseBelow struct {
	Method
	Tokens int
}

// Prefill is the method's, or dense.
func (m DenseBelow) Prefill(dev kernels.Device, p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) {
	if !m.short(first, q.Rows()) {
		m.Method.Prefill(dev, p, out, q, kv, first, spans)
		return
	}
	if p != nil {
		p.Begin(first, q.Rows())
		p.Dense = true
	}
	Full{}.Prefill(dev, nil, out, q, kv, first, spans)
}

// Queries are the method's, or those asked for.
func (m DenseBelow) Queries(buf []kernels.Span, first, rows int, spans []kernels.Span) []kernels.Span {
	if m.short(first, rows) {
		return append(buf, spans...)
	}
	return m.Method.Queries(buf, first, rows, spans)
}

// SelectUnpermuted is the method's, if it has one.
func (m DenseBelow) SelectUnpermuted(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) bool {
	inner, ok := m.Method.(Permuter)
	return ok && !m.short(first, q.Rows()) && inner.SelectUnpermuted(dev, p, q, kv, first, spans)
}

func (m DenseBelow) short(first, rows int) bool { return first+rows < m.Tokens }
