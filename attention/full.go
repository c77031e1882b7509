package attention

import "github.com/pbs-run/pbs-run/kernels"

// Full is dense causal attention (arXiv 1706.03762, eq. 1, with a causal mask):
//
//	out_i = Σ_j softmax_j(q_i·k_j/√d) v_j    over all keys j <= i
//
// It has no settings. It is what the other methods are compared with, and what they fall back to where choosing would
// cost more than it saves.
type Full struct{}

// Layout has no blocks.
func (Full) Layout() Layout { return Layout{} }

// Choose is never called: there is nothing to choose.
func (Full) Choose(kernels.Device, *kernels.Plan, kernels.Tensor, kernels.KV) {}

// String returns "full".
func (Full) String() string { return "full" }

// DenseBelow is a method that attends to every key where there are fewer than Tokens of them: in short prompts choosing blocks
// costs more than it saves. Its String is the method's own; Tokens is no setting of a spec.
type DenseBelow struct {
	Method
	Tokens int
}

// Layout is the method's, but for the keys it takes not to be dense.
func (m DenseBelow) Layout() Layout {
	l := m.Method.Layout()
	l.Least = max(l.Least, m.Tokens-1)
	return l
}
