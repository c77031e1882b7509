package attention

import "github.com/pbs-run/pbs-run/kernels"

// Permuter is a Method that reorders keys and can tell what it would keep if it did not: what the permutation is worth.
type Permuter interface {
	Method

	// SelectUnpermuted fills p with the blocks that Prefill, called with the same arguments, would keep if it left the keys in
	// their order. Where Prefill would not reorder them it reports false and leaves p alone.
	SelectUnpermuted(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) bool
}

// SelectUnpermuted pools and selects by the same rule with the keys in their order.
func (m PBS) SelectUnpermuted(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV, first int, spans []kernels.Span) bool {
	if !m.Permute || m.dense(first, q.Rows()) {
		return false
	}
	p.Begin(first, q.Rows())
	dev.PoolBlocks(p, q, kv, spans)
	dev.SelectBlocks(p, kernels.Selection{Tau: m.Tau, KeepFirst: m.First, Density: m.Density}, spans)
	return true
}
