package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/pbs-run/pbs-run/kernels"
)

const (
	topics  = 8    // directions that queries and keys share, per key head
	stretch = 1024 // positions whose queries look for the same topic
	heavy   = 24   // one key in so many belongs to a topic
)

// makeLayer makes n queries, keys and values with the structure that makes sparse attention possible: noise, and in it a
// few keys, scattered, that stand out for the queries of some stretches, and a first key that stands out a little for all. It
// is the same for the same shape.
func makeLayer(dev kernels.Device, shape layer, n int, kv kernels.DType, use layerUse) (*layer, error) {
	shape.keys, shape.rows = n, n
	dims := [3]int{shape.kvHeads, n, shape.headDim}
	if err := shape.check(dims, dims); err != nil {
		return nil, fmt.Errorf("--heads, --kv-heads, --head-dim: %w", err)
	}
	l, err := newLayer(dev, shape, kv, use)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(3, 4))
	// Two vectors of noise plus strength times the same unit direction have a scaled product of 8, give or take 1.
	strength := float32(math.Sqrt(8 * math.Sqrt(float64(l.headDim))))
	q, k, v := make([]byte, l.q.Bytes()), make([]byte, l.kv.K.Bytes()), make([]byte, l.kv.V.Bytes())
	group, row := l.heads/l.kvHeads, make([]float32, l.headDim)
	put := func(to []byte, dt kernels.DType, at int, topic []float32, strength float32) {
		for d := range row {
			row[d] = float32(rng.NormFloat64())
			if topic != nil {
				row[d] += strength * topic[d]
			}
		}
		fromFloat32(to[at*l.headDim*dt.Size():], dt, row)
	}
	for h := range l.kvHeads {
		directions := makeDirections(rng, l.headDim)
		for i := range n {
			if i%stretch == 0 && dev.Err() != nil { // interrupted
				return nil, dev.Err()
			}
			var topic []float32
			if rng.IntN(heavy) == 0 {
				topic = directions[(i/stretch+rng.IntN(2))%topics]
			}
			put(k, kv, h*n+i, topic, strength)
			put(v, kv, h*n+i, nil, 0)
			for g := range group {
				put(q, l.q.DType, i*l.heads+h*group+g, directions[(i/stretch*3+g)%topics], strength)
			}
		}
		sum := make([]float32, l.headDim) // key 0 has a bit of every topic
		for _, u := range directions {
			for d := range sum {
				sum[d] += u[d] / 2
			}
		}
		put(k, kv, h*n, sum, strength)
	}
	dev.Upload(l.q, q)
	dev.Upload(l.kv.K, k)
	dev.Upload(l.kv.V, v)
	return l, dev.Err()
}

// makeDirections draws unit vectors.
func makeDirections(rng *rand.Rand, dim int) [][]float32 {
	list := make([][]float32, topics)
	for t := range list {
		u, norm := make([]float32, dim), 0.0
		for d := range u {
			u[d] = float32(rng.NormFloat64())
			norm += float64(u[d]) * float64(u[d])
		}
		for d := range u {
			u[d] /= float32(math.Sqrt(norm))
		}
		list[t] = u
	}
	return list
}
