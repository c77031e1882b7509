// Package attention holds the methods by which a prefill attends: recipes over the operations of a kernels.Device.
package attention

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// Method computes one layer's causal attention in prefill. Methods are values: what a prefill needs beyond queries and cache
// stands in a kernels.Plan.
type Method interface {
	// Shape completes a session's shape with the method's block and segment; Block stays 0 where no plan is needed.
	Shape(s kernels.PlanShape) kernels.PlanShape

	// Prefill computes out from q, both [rows, heads·headDim], whose row i stands at position first+i, over the keys
	// 0..first+i of kv, for the rows of spans, which ascend. out may be q itself. p has the method's Shape; nil where that has no
	// block.
	Prefill(dev kernels.Device, p *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span)

	// Queries returns the spans of rows whose queries Prefill reads when it is asked for spans: block methods look at whole
	// blocks and at the last queries. It appends to buf.
	Queries(buf []kernels.Span, first, rows int, spans []kernels.Span) []kernels.Span

	// String is the spec that Parse accepts.
	String() string
}

// Full is dense causal attention (arXiv 1706.03762, eq. 1, with a causal mask).
type Full struct{}

// Shape asks for no plan.
func (Full) Shape(s kernels.PlanShape) kernels.PlanShape { return s }

// Prefill attends to every key.
func (Full) Prefill(dev kernels.Device, _ *kernels.Plan, out, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) {
	for _, s := range spans {
		dev.Attend(out.Slice(s.Lo, s.Hi), q.Slice(s.Lo, s.Hi), kv, first+s.Lo)
	}
}

// Queries are those asked for.
func (Full) Queries(buf []kernels.Span, _, _ int, spans []kernels.Span) []kernels.Span {
	return append(buf, spans...)
}

// String returns "full".
func (Full) String() string { return "full" }

// Parse reads a method spec: its name, and after a colon its settings as key=value separated by commas. What is not given
// keeps its default. An unknown name or setting is an error, never another method.
func Parse(spec string) (Method, error) {
	s, err := parseSettings(spec)
	if err != nil {
		return nil, err
	}
	var m Method
	switch s.name {
	case "full":
		m = Full{}
	case "pbs":
		m = s.pbs()
	case "pbs+":
		m = s.pbsPlus()
	case "meanpool":
		m = s.meanPool()
	case "xattention":
		m = s.xattention()
	case "flexprefill":
		m = s.flexPrefill()
	case "minference":
		m = s.minference()
	default:
		return nil, fmt.Errorf("attention %q: unknown method %q; want full, pbs, pbs+, meanpool, xattention, flexprefill or minference", spec, s.name)
	}
	return m, s.finish()
}
