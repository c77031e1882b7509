// Package kvcache holds the keys and values of every layer of one sequence.
package kvcache

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// Cache is the keys (after RoPE) and values of one sequence, each [layers, kvHeads, capacity, headDim], in original token
// order whatever attention method filled it. Len positions are valid; the layers are written ahead of Len during a
// forward pass and become valid together by Advance.
type Cache struct {
	layers   []kernels.KV
	length   int
	capacity int
}

// Bytes is the memory that New takes for a cache of these dims.
func Bytes(dt kernels.DType, layers, kvHeads, headDim, capacity int) int64 {
	return 2 * int64(layers) * int64(kvHeads) * int64(capacity) * int64(headDim) * int64(dt.Size())
}

// New allocates a cache on dev with elements of type dt (BF16 or F32). Failures come from dev.Err.
func New(dev kernels.Device, dt kernels.DType, layers, kvHeads, headDim, capacity int) *Cache {
	c := &Cache{capacity: capacity}
	for range layers {
		c.layers = append(c.layers, kernels.KV{
			K: dev.Alloc(dt, kvHeads, capacity, headDim),
			V: dev.Alloc(dt, kvHeads, capacity, headDim),
		})
	}
	return c
}

// Layer returns the keys and values of layer i, [kvHeads, capacity, headDim].
func (c *Cache) Layer(i int) kernels.KV { return c.layers[i] }

// Len is the number of valid positions, Cap how many fit.
func (c *Cache) Len() int { return c.length }
func (c *Cache) Cap() int { return c.capacity }

// Advance makes the n positions after Len valid.
func (c *Cache) Advance(n int) {
	if n < 0 || c.length+n > c.capacity {
		panic(fmt.Sprintf("kvcache: advance %d from %d beyond capacity %d", n, c.length, c.capacity))
	}
	c.length += n
}

// Truncate forgets the positions from n on, so that a following turn can reuse the first n.
func (c *Cache) Truncate(n int) {
	if n < 0 || n > c.length {
		panic(fmt.Sprintf("kvcache: truncate to %d of %d", n, c.length))
	}
	c.length = n
}
