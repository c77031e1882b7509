package model

import (
	"errors"
	"fmt"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kvcache"
)

// tileRows is how many rows go through the linear layers at a time: enough to amortise the packing of weights, few enough
// that the tile's activations stay small beside the residual stream.
const tileRows = 2048

// logitBytes bounds the buffer of logits; requests for more positions are served in several rounds.
const logitBytes = 64 << 20

// maxTokens bounds what a session is asked for, far above what fits anywhere, so that no size overflows.
const maxTokens = 1 << 31

// Needs is what the memory of a session depends on beside its length.
type Needs struct {
	KV      kernels.DType                 // element of the cache: BF16 or F32
	Compute kernels.DType                 // of the device
	Scratch func(kernels.PlanShape) int64 // of the device; see kernels.Memory
	Weights int64                         // bytes mapped from the checkpoint
	Methods []attention.Method            // attention of every layer's prefill, or one for all
}

// method is the attention of layer i.
func (n Needs) method(i int) attention.Method { return n.Methods[min(i, len(n.Methods)-1)] }

// Plan is the memory of a session in bytes: what NewSession allocates, and nothing is allocated after.
type Plan struct {
	Needs
	Capacity int // positions the KV cache holds
	Rows     int // longest stretch of tokens that one forward pass takes

	Cache    int64 // keys and values of all layers
	Residual int64 // [rows, hidden] F32
	Query    int64 // [rows, heads·headDim] in the compute dtype; attention overwrites it
	Tiles    int64 // norm, qkv and MLP activations of one row tile
	Rope     int64 // [capacity, headDim] F32
	Logits   int64
	Sparse   int64 // order of keys, block means, kept blocks and what choosing them takes, for the methods that have them
}

// Total is the sum of all parts.
func (p Plan) Total() int64 {
	return p.Weights + p.Cache + p.Residual + p.Query + p.Tiles + p.Rope + p.Logits + p.Sparse
}

// NewPlan sizes a session of capacity positions whose longest forward pass has rows tokens.
func (c Config) NewPlan(capacity, rows int, needs Needs) Plan {
	tile, size := int64(min(tileRows, rows)), int64(needs.Compute.Size())
	heads, kvWidth := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	p := Plan{
		Needs: needs, Capacity: capacity, Rows: rows,
		Cache:    kvcache.Bytes(needs.KV, c.Layers, c.KVHeads, c.HeadDim, capacity),
		Residual: 4 * int64(rows) * int64(c.Hidden),
		Query:    size * int64(rows) * heads,
		Tiles:    tile * (size*int64(c.Hidden) + 4*(heads+2*kvWidth) + size*int64(c.Intermediate)),
		Rope:     4 * int64(capacity) * int64(c.HeadDim),
		Logits:   4 * int64(c.Vocab) * int64(c.logitRows(rows)),
	}
	for shape := range c.sparseShapes(p) {
		p.Sparse += shape.Bytes() + needs.Scratch(shape)
	}
	return p
}

// sparseShapes are the shapes of plan that the methods of p need; layers of the same shape share a plan.
func (c Config) sparseShapes(p Plan) map[kernels.PlanShape]*kernels.Plan {
	shapes := map[kernels.PlanShape]*kernels.Plan{}
	for i := range c.Layers {
		if s := c.sparseShape(p, i); s.Block > 0 {
			shapes[s] = nil
		}
	}
	return shapes
}

func (c Config) sparseShape(p Plan, layer int) kernels.PlanShape {
	return p.method(layer).Layout().Shape(kernels.PlanShape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Capacity: p.Capacity, Rows: p.Rows})
}

func (c Config) logitRows(rows int) int {
	return min(rows, max(1, logitBytes/(4*c.Vocab)))
}

// LargestPrompt returns the longest prompt, at most limit, that fits into free bytes together with maxNew generated tokens;
// 0 when not even one token fits.
func (c Config) LargestPrompt(free int64, limit, maxNew int, needs Needs) int {
	lo, hi := 0, limit
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if c.NewPlan(mid+maxNew, mid, needs).Total() <= free {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// ErrTooLong is what a prompt beyond the model's positions is refused with.
var ErrTooLong = errors.New("exceed the model's")

// CheckLength says whether a prompt of n tokens with maxNew more may run: within the model's positions, or else it is
// ErrTooLong, unless extrapolate, and within free bytes of memory. It is asked before any work.
func (c Config) CheckLength(n, maxNew int, extrapolate bool, free int64, needs Needs) error {
	if n == 0 {
		return fmt.Errorf("the prompt is empty")
	}
	if maxNew > maxTokens-n {
		return fmt.Errorf("prompt of %d tokens + %d new tokens: want %d or fewer in all", n, maxNew, maxTokens)
	}
	if n+maxNew > c.MaxPositions && !extrapolate {
		return fmt.Errorf("prompt of %d tokens + %d new tokens %w %d positions", n, maxNew, ErrTooLong, c.MaxPositions)
	}
	plan := c.NewPlan(n+maxNew, n, needs)
	if plan.Total() <= free {
		return nil
	}
	fits := c.LargestPrompt(free, n, maxNew, needs)
	return fmt.Errorf("prompt of %d tokens + %d new tokens need %s (weights %s, KV cache %s, activations %s), %s are free; the longest prompt that fits has %d tokens",
		n, maxNew, GiB(plan.Total()), GiB(plan.Weights), GiB(plan.Cache), GiB(plan.Total()-plan.Weights-plan.Cache), GiB(free), fits)
}

// GiB prints a number of bytes for people.
func GiB(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}
