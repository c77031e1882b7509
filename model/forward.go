package model

import (
	"context"
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// span is a range of rows [lo, hi) of the forward pass. Where wanted is false only K and V are computed for them.
type span struct {
	lo, hi int
	wanted bool
}

// forward runs ids through all layers, one layer after the other over all rows (prefill is layer-major, because PBS-Attn
// ranks keys by the last queries of the whole prompt), and leaves the residual stream of the wanted rows in s.resid.
// A decode step is the same pass over one row.
//
// The last layer's output matters only where somebody asks for logits. So there it computes K and V of every row, which
// later tokens attend to, but q, attention and MLP of the wanted rows alone.
func (s *Session) forward(ctx context.Context, ids []int32, want []int) error {
	dev, m, first := s.m.dev, s.m, s.cache.Len()
	n := len(ids)
	dev.Embed(s.resid.Slice(0, n), m.embed, ids) // [n, hidden]
	if err := s.afterLayer(-1, n); err != nil {
		return err
	}
	all := [1]span{{0, n, true}}
	s.progress.start(n, first)
	for i := range m.layers {
		l, kv := &m.layers[i], s.cache.Layer(i)
		spans := all[:]
		if i == len(m.layers)-1 && !s.WholeLastLayer {
			spans = s.lastSpans(n, want)
		}
		for t := range tiles(spans) {
			x, norm := s.resid.Slice(t.lo, t.hi), s.norm.Shape(t.hi-t.lo, m.Hidden)
			q, weight := s.q.Slice(t.lo, t.hi), l.qkv
			if !t.wanted {
				q, weight = kernels.Tensor{}, l.qkv[1:]
			}
			qkv := s.qkv.Shape(t.hi-t.lo, weight.Out())
			dev.RMSNorm(norm, x, l.attnNorm, m.Eps)        // [tile, hidden]
			dev.MatMul(qkv, norm, weight)                  // [tile, (heads+2·kvHeads)·headDim]
			dev.RopeAppend(q, qkv, s.rope, kv, first+t.lo) // q [tile, heads·headDim], kv [kvHeads, .., headDim]
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.progress.qkv(i, t)
		}
		for t := range wanted(spans) {
			q := s.q.Slice(t.lo, t.hi)
			if n == 1 {
				dev.Attend(q, q, kv, first) // decode is dense
			} else {
				s.method.Prefill(dev, q, q, kv, first+t.lo) // [rows, heads·headDim]
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.progress.attention(i, t)
		}
		for t := range tiles(spans) {
			if !t.wanted {
				continue
			}
			x, norm := s.resid.Slice(t.lo, t.hi), s.norm.Shape(t.hi-t.lo, m.Hidden)
			act := s.act.Shape(t.hi-t.lo, m.Intermediate)
			dev.MatMulAdd(x, s.q.Slice(t.lo, t.hi), l.out) // [tile, hidden]
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

// lastSpans cuts 0..n-1 into spans of wanted and unwanted rows.
func (s *Session) lastSpans(n int, want []int) []span {
	spans, lo := s.spans[:0], 0
	for len(want) > 0 {
		run := 1
		for run < len(want) && want[run] == want[0]+run {
			run++
		}
		if want[0] > lo {
			spans = append(spans, span{lo, want[0], false})
		}
		lo = want[0] + run
		spans = append(spans, span{want[0], lo, true})
		want = want[run:]
	}
	if lo < n {
		spans = append(spans, span{lo, n, false})
	}
	s.spans = spans
	return spans
}

// tiles cuts spans into pieces of at most tileRows rows.
func tiles(spans []span) func(yield func(span) bool) {
	return func(yield func(span) bool) {
		for _, sp := range spans {
			for lo := sp.lo; lo < sp.hi; lo += tileRows {
				if !yield(span{lo, min(lo+tileRows, sp.hi), sp.wanted}) {
					return
				}
			}
		}
	}
}

// wanted passes over the spans that need attention.
func wanted(spans []span) func(yield func(span) bool) {
	return func(yield func(span) bool) {
		for _, sp := range spans {
			if sp.wanted && !yield(sp) {
				return
			}
		}
	}
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
