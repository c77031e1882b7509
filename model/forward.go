package model

import (
	"context"
	"fmt"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// forward runs ids through all layers, one layer after the other over all rows (prefill is layer-major, because PBS-Attn
// ranks keys by the last queries of the whole prompt), and leaves the residual stream of the wanted rows in s.resid.
// A decode step is the same pass over one row.
//
// The last layer's output matters only where somebody asks for logits. So there it computes K and V of every row, which
// later tokens attend to, but attention and MLP of the wanted rows alone; q too where attention is dense. A sparse method gets all
// queries, half a percent of a 16-layer model's work, and chooses for all: else the layer's density would be that of its last rows.
func (s *Session) forward(ctx context.Context, ids []int32, want []int) error {
	dev, ok := s.m.dev.(kernels.Stepper)
	if !ok || len(ids) > 1 || s.AfterLayer != nil || s.BeforeAttention != nil {
		return s.pass(ctx, ids, want)
	}
	return dev.Step(decodeStep{s, len(want), s.WholeLastLayer}, s.cache.Len(), ids[0], func() error { return s.pass(ctx, ids, want) })
}

// decodeStep is what a decode step depends on beside its token and position.
type decodeStep struct {
	s     *Session
	want  int
	whole bool
}

// pass is forward, one operation after the other.
func (s *Session) pass(ctx context.Context, ids []int32, want []int) error {
	dev, m, first := s.m.dev, s.m, s.cache.Len()
	n := len(ids)
	dev.Embed(s.resid.Slice(0, n), m.embed, ids) // [n, hidden]
	if err := s.afterLayer(-1, n); err != nil {
		return err
	}
	s.progress.start(n, first)
	for i := range m.layers {
		l, kv := &m.layers[i], s.cache.Layer(i)
		method, plan := s.methods[i], s.plans[i]
		if n == 1 {
			method, plan = attention.Full{}, nil // decode is dense
		}
		sp := s.spansOf(method, first, n, want, i == len(m.layers)-1 && !s.WholeLastLayer)
		for t := range tiles(sp.queries) {
			if err := s.qkvTile(ctx, l, l.qkv, t, s.q.Slice(t.Lo, t.Hi), kv, first); err != nil {
				return err
			}
			s.progress.qkv(i, t)
		}
		for t := range tiles(sp.rest) {
			if err := s.qkvTile(ctx, l, l.qkv[1:], t, kernels.Tensor{}, kv, first); err != nil {
				return err
			}
			s.progress.qkv(i, t)
		}
		q := s.q.Slice(0, n)
		if err := s.beforeAttention(i, method, plan, q, kv, first); err != nil {
			return err
		}
		attention.Prefill(dev, method, plan, q, q, kv, first, sp.outputs) // [n, heads·headDim]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n > 1 {
			if err := s.density.record(dev, i, s.specs[i], plan); err != nil {
				return fmt.Errorf("layer %d: %w", i, err)
			}
		}
		s.progress.attention(i, sp.outputs)
		for t := range tiles(sp.outputs) {
			x, norm := s.resid.Slice(t.Lo, t.Hi), s.norm.Shape(t.Hi-t.Lo, m.Hidden)
			act := s.act.Shape(t.Hi-t.Lo, m.Intermediate)
			dev.MatMulAdd(x, s.q.Slice(t.Lo, t.Hi), l.out) // [tile, hidden]
			dev.RMSNorm(norm, x, l.mlpNorm, m.Eps)         // [tile, hidden]
			dev.SwiGLU(act, norm, l.gate, l.up)            // [tile, intermediate]
			dev.MatMulAdd(x, act, l.down)                  // [tile, hidden]
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.progress.mlp(i, t)
		}
		if err := s.afterLayer(i, n); err != nil {
			return err
		}
	}
	return nil
}

// qkvTile computes K and V of a tile of rows into the cache and, where q is given, their queries into it.
func (s *Session) qkvTile(ctx context.Context, l *layer, weight kernels.Linear, t kernels.Span, q kernels.Tensor, kv kernels.KV, first int) error {
	dev, m, rows := s.m.dev, s.m, t.Hi-t.Lo
	norm, qkv := s.norm.Shape(rows, m.Hidden), s.qkv.Shape(rows, weight.Out())
	dev.RMSNorm(norm, s.resid.Slice(t.Lo, t.Hi), l.attnNorm, m.Eps) // [tile, hidden]
	dev.MatMul(qkv, norm, weight)                                   // [tile, (heads+2·kvHeads)·headDim]
	dev.RopeAppend(q, qkv, s.rope, kv, first+t.Lo)                  // q [tile, heads·headDim], kv [kvHeads, .., headDim]
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// beforeAttention shows layer i's queries and keys to whoever asked, and selects once more without permutation for
// CompareUnpermuted: after attention the queries are gone.
func (s *Session) beforeAttention(i int, method attention.Method, plan *kernels.Plan, q kernels.Tensor, kv kernels.KV, first int) error {
	if s.BeforeAttention != nil {
		if err := s.m.dev.Err(); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		if err := s.BeforeAttention(i, q, kv, first); err != nil {
			return err
		}
	}
	if !s.CompareUnpermuted || q.Rows() == 1 {
		return nil
	}
	ok := attention.ChooseUnpermuted(s.m.dev, method, plan, q, kv, first)
	return s.density.recordUnpermuted(s.m.dev, i, plan, ok)
}

// afterLayer asks whether the device or the checkpoint's files failed, then shows the residual stream to whoever listens.
func (s *Session) afterLayer(i, n int) error {
	if err := s.m.dev.Err(); err != nil {
		return fmt.Errorf("layer %d: %w", i, err)
	}
	if err := s.m.ckpt.Fault(); err != nil {
		return err
	}
	if s.AfterLayer != nil {
		return s.AfterLayer(i, s.resid.Slice(0, n))
	}
	return nil
}
