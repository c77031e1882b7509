// Package attention holds the methods by which a prefill attends: recipes over the operations of a kernels.Device.
package attention

import (
	"fmt"
	"strings"

	"github.com/pbs-run/pbs-run/kernels"
)

// Method computes one layer's causal attention in prefill.
type Method interface {
	// Prefill computes out from q, both [rows, heads·headDim], whose row i stands at position first+i, over the keys
	// 0..first+i of kv. out may be q itself.
	Prefill(dev kernels.Device, out, q kernels.Tensor, kv kernels.KV, first int)
	// String is the spec that Parse accepts.
	String() string
}

// Full is dense causal attention (arXiv 1706.03762, eq. 1, with a causal mask).
type Full struct{}

// Prefill attends to every key.
func (Full) Prefill(dev kernels.Device, out, q kernels.Tensor, kv kernels.KV, first int) {
	dev.Attend(out, q, kv, first)
}

// String returns "full".
func (Full) String() string { return "full" }

// Parse reads a method spec: its name, and after a colon its settings as key=value separated by commas. An unknown name or
// setting is an error, never another method.
func Parse(spec string) (Method, error) {
	name, settings, has := strings.Cut(spec, ":")
	switch name {
	case "full":
		if has {
			return nil, fmt.Errorf("attention %q: full takes no settings, got %q", spec, settings)
		}
		return Full{}, nil
	}
	return nil, fmt.Errorf("attention %q: unknown method; want full", spec)
}
