package main

import (
	"fmt"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

// layer is one layer's queries, keys and values on a device. The queries are those of the last positions.
type layer struct {
	heads, kvHeads, headDim int
	keys, rows              int            // rows queries
	q                       kernels.Tensor // [rows, heads·headDim]
	kv                      kernels.KV     // [kvHeads, keys, headDim]
	plans                   map[kernels.PlanShape]*kernels.Plan
}

func (l *layer) first() int { return l.keys - l.rows }

// layerUse is what a layer is made for.
type layerUse struct {
	buffers int                // outputs that the caller will want beside
	methods []attention.Method // that it will plan
}

// newLayer allocates a layer whose cache has elements of type kv, after a look at the free memory.
func newLayer(dev kernels.Device, l layer, kv kernels.DType, use layerUse) (*layer, error) {
	dt := dev.Compute()
	q := int64(l.rows * l.heads * l.headDim * dt.Size())
	l.plans = map[kernels.PlanShape]*kernels.Plan{}
	plans := int64(0)
	for _, m := range use.methods {
		shape := l.shape(m)
		if _, counted := l.plans[shape]; shape.Block > 0 && !counted {
			l.plans[shape] = nil
			plans += shape.Bytes() + dev.Scratch(shape)
		}
	}
	need := int64(1+use.buffers)*q + 2*int64(l.keys*l.kvHeads*l.headDim*kv.Size()) + plans
	free, err := freeOn(dev)
	if s, ok := dev.(interface{ Workspace(keys int) int64 }); ok {
		free = max(0, free-s.Workspace(l.keys))
	}
	if err == nil && need > free {
		return nil, fmt.Errorf("%d queries of %d heads over %d keys need %s, of that %s for the methods' plans, %s are free", l.rows, l.heads, l.keys, model.GiB(need), model.GiB(plans), model.GiB(free))
	}
	l.q = dev.Alloc(dt, l.rows, l.heads*l.headDim)
	l.kv = kernels.KV{K: dev.Alloc(kv, l.kvHeads, l.keys, l.headDim), V: dev.Alloc(kv, l.kvHeads, l.keys, l.headDim)}
	return &l, dev.Err()
}

// readLayer takes q [heads, n, headDim], and k and v [kvHeads, n, headDim] of any float type, from a file. Fewer queries than keys are
// those of the last positions.
func readLayer(dev kernels.Device, path string, use layerUse) (*layer, error) {
	c, err := loader.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	shapes := map[string]loader.Info{}
	for _, t := range c.Tensors() {
		shapes[t.Name] = t
	}
	tensors := map[string]kernels.Tensor{}
	for _, name := range []string{"q", "k", "v"} {
		dims := shapes[name].Dims
		if c.Has(name) && len(dims) != 3 {
			return nil, fmt.Errorf("--input %s: tensor %s has shape %v; want q [heads, n, headDim], k and v [kvHeads, n, headDim]", path, name, dims)
		}
		if tensors[name], err = c.Tensor(name, dims...); err != nil {
			return nil, fmt.Errorf("--input: %w", err)
		}
	}
	q, k, v := tensors["q"], tensors["k"], tensors["v"]
	shape := layer{heads: q.Dims[0], rows: q.Rows(), headDim: q.Cols(), kvHeads: k.Dims[0], keys: k.Rows()}
	if err := shape.check(k.Dims, v.Dims); err != nil {
		return nil, fmt.Errorf("--input %s: %w", path, err)
	}
	kvType := kernels.F32
	if dev.Compute() == kernels.BF16 || k.DType == kernels.BF16 && v.DType == kernels.BF16 {
		kvType = kernels.BF16
	}
	l, err := newLayer(dev, shape, kvType, use)
	if err == nil {
		err = l.fill(dev, q, k, v)
	}
	if fault := c.Fault(); fault != nil {
		return nil, fault // whatever else is wrong comes from it
	}
	if err != nil {
		return nil, fmt.Errorf("--input %s: %w", path, err)
	}
	return l, nil
}

// check compares the shapes of q, k and v.
func (l layer) check(k, v [3]int) error {
	switch {
	case k != v:
		return fmt.Errorf("k has shape %v, v %v; want them equal", k, v)
	case k[2] != l.headDim:
		return fmt.Errorf("q has head dim %d, k %d; want them equal", l.headDim, k[2])
	case l.headDim < 8 || l.headDim > 256 || l.headDim%2 != 0:
		return fmt.Errorf("head dim %d: want an even number from 8 to 256", l.headDim)
	case l.kvHeads < 1 || l.heads < 1 || l.heads%l.kvHeads != 0:
		return fmt.Errorf("%d query heads, %d key heads; want a multiple", l.heads, l.kvHeads)
	case l.rows < 1 || l.keys < l.rows:
		return fmt.Errorf("%d queries, %d keys; want at least one query, and a key for each", l.rows, l.keys)
	}
	return nil
}

// fill converts the tensors of a file.
func (l *layer) fill(dev kernels.Device, q, k, v kernels.Tensor) error {
	size := l.q.DType.Size()
	rows, host := make([]byte, l.q.Bytes()), make([]float32, l.headDim)
	for h := range l.heads {
		for i := range l.rows {
			if i%stretch == 0 && dev.Err() != nil { // interrupted
				return dev.Err()
			}
			if !toFloat32(host, q.DType, q.Data[(h*l.rows+i)*l.headDim*q.DType.Size():]) {
				return fmt.Errorf("q holds NaN or infinity (head %d, position %d)", h, i)
			}
			fromFloat32(rows[(i*l.heads+h)*l.headDim*size:], l.q.DType, host)
		}
	}
	dev.Upload(l.q, rows)
	for _, t := range []struct {
		name     string
		from, to kernels.Tensor
	}{{"k", k, l.kv.K}, {"v", v, l.kv.V}} {
		out := make([]byte, t.to.Bytes())
		for i := range l.kvHeads * l.keys {
			if i%stretch == 0 && dev.Err() != nil { // interrupted
				return dev.Err()
			}
			if !toFloat32(host, t.from.DType, t.from.Data[i*l.headDim*t.from.DType.Size():]) {
				return fmt.Errorf("%s holds NaN or infinity (head %d, position %d)", t.name, i/l.keys, i%l.keys)
			}
			fromFloat32(out[i*l.headDim*t.to.DType.Size():], t.to.DType, host)
		}
		dev.Upload(t.to, out)
	}
	return dev.Err()
}

// shape is that of m's plan for l; its Block is 0 for a method without blocks.
func (l *layer) shape(m attention.Method) kernels.PlanShape {
	return m.Layout().Shape(kernels.PlanShape{Heads: l.heads, KVHeads: l.kvHeads, HeadDim: l.headDim, Capacity: l.keys, Rows: l.rows})
}

// plan is what m needs for l, which methods of one shape share; nil for a method without blocks.
func (l *layer) plan(dev kernels.Device, m attention.Method) *kernels.Plan {
	shape := l.shape(m)
	if l.plans[shape] == nil && shape.Block > 0 {
		l.plans[shape] = kernels.NewPlan(dev, shape)
	}
	return l.plans[shape]
}

// whole is the span of all queries.
func (l *layer) whole() []kernels.Span { return []kernels.Span{{Lo: 0, Hi: l.rows}} }

// attend runs m over all queries and returns where its time went.
func (l *layer) attend(clock *timed, m attention.Method, p *kernels.Plan, out kernels.Tensor) phases {
	clock.take()
	attention.Prefill(clock, m, p, out, l.q, l.kv, l.first(), l.whole())
	return clock.take()
}

// fastest runs m several times, and tells how far the runs lie apart.
func (l *layer) fastest(clock *timed, m attention.Method, p *kernels.Plan, out kernels.Tensor, repeat int) (best phases, apart float64) {
	var totals []float64
	for i := range repeat {
		run := l.attend(clock, m, p, out)
		if totals = append(totals, run.total()); i == 0 || run.total() < best.total() {
			best = run
		}
	}
	return best, spread(totals)
}

func (p phases) total() float64 { return p.permute() + p.choose() + p.Attend + p.Linear + p.Other }
