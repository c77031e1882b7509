package model

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kvcache"
)

// tileRows is how many rows go through the linear layers at a time: enough to amortise the packing of weights, few enough
// that the tile's activations stay small beside the residual stream.
const tileRows = 2048

// logitBytes bounds the buffer of logits; requests for more positions are served in several rounds.
const logitBytes = 64 << 20

// Plan is the memory of a session in bytes: what NewSession allocates, and nothing is allocated after.
type Plan struct {
	Capacity int           // positions the KV cache holds
	Rows     int           // longest stretch of tokens that one forward pass takes
	KVType   kernels.DType // element of the cache: BF16 or F32

	Weights  int64 // mapped from the checkpoint, not allocated
	KV       int64 // keys and values of all layers
	Residual int64 // [rows, hidden] F32
	Query    int64 // [rows, heads·headDim] in the compute dtype; attention overwrites it
	Tiles    int64 // norm, qkv and MLP activations of one row tile
	Rope     int64 // [capacity, headDim] F32
	Logits   int64
}

// Total is the sum of all parts.
func (p Plan) Total() int64 {
	return p.Weights + p.KV + p.Residual + p.Query + p.Tiles + p.Rope + p.Logits
}

// NewPlan sizes a session of capacity positions whose longest forward pass has rows tokens, on a device that computes in dt.
func (c Config) NewPlan(capacity, rows int, kv, dt kernels.DType, weights int64) Plan {
	tile, size := int64(min(tileRows, rows)), int64(dt.Size())
	heads, kvWidth := int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim)
	return Plan{
		Capacity: capacity, Rows: rows, KVType: kv,
		Weights:  weights,
		KV:       kvcache.Bytes(kv, c.Layers, c.KVHeads, c.HeadDim, capacity),
		Residual: 4 * int64(rows) * int64(c.Hidden),
		Query:    size * int64(rows) * heads,
		Tiles:    tile * (size*int64(c.Hidden) + 4*(heads+2*kvWidth) + size*int64(c.Intermediate)),
		Rope:     4 * int64(capacity) * int64(c.HeadDim),
		Logits:   4 * int64(c.Vocab) * int64(c.logitRows(rows)),
	}
}

func (c Config) logitRows(rows int) int {
	return min(rows, max(1, logitBytes/(4*c.Vocab)))
}

// LargestPrompt returns the longest prompt, at most limit, that fits into free bytes together with maxNew generated tokens;
// 0 when not even one token fits.
func (c Config) LargestPrompt(free int64, limit, maxNew int, kv, dt kernels.DType, weights int64) int {
	lo, hi := 0, limit
	for lo < hi {
		mid := lo + (hi-lo+1)/2
		if c.NewPlan(mid+maxNew, mid, kv, dt, weights).Total() <= free {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// CheckLength says whether a prompt of n tokens with maxNew more may run: within the model's positions, unless extrapolate,
// and within free bytes of memory. It is asked before any work.
func (c Config) CheckLength(n, maxNew int, extrapolate bool, free int64, kv, dt kernels.DType, weights int64) error {
	if n == 0 {
		return fmt.Errorf("the prompt is empty")
	}
	if n+maxNew > c.MaxPositions && !extrapolate {
		return fmt.Errorf("prompt of %d tokens + %d new tokens exceed the model's %d positions; shorten the prompt, use --truncate middle, or accept worse output with --allow-extrapolation", n, maxNew, c.MaxPositions)
	}
	plan := c.NewPlan(n+maxNew, n, kv, dt, weights)
	if plan.Total() <= free {
		return nil
	}
	fits := c.LargestPrompt(free, n, maxNew, kv, dt, weights)
	return fmt.Errorf("prompt of %d tokens + %d new tokens need %s (weights %s, KV cache %s, activations %s), %s are free; the longest prompt that fits has %d tokens",
		n, maxNew, GiB(plan.Total()), GiB(plan.Weights), GiB(plan.KV), GiB(plan.Total()-plan.Weights-plan.KV), GiB(free), fits)
}

// GiB prints a number of bytes for people.
func GiB(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}
