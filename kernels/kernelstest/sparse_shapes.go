package kernelstest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// testSparseShapes: misshapen arguments panic before anything is read or written, in words that name the operation; what is right beside
// them works.
func testSparseShapes(t *testing.T, dev kernels.Device) {
	c := sparseCase{block: 16, segment: 16, stride: 8, lines: true,
		attendCase: attendCase{rows: 100, first: 30, heads: 4, kvHeads: 2, dim: 32, kv: kernels.BF16, spread: 1}}
	q, k, v := c.inputs(dev, rand.New(rand.NewPCG(32, 0)))
	kv, all := kernels.KV{K: k.Tensor, V: v.Tensor}, []kernels.Span{{Hi: 100}}
	p := c.plan(dev)
	// with is the operations on p after a change of it.
	with := func(change func(p *kernels.Plan)) *kernels.Plan {
		other := *p
		change(&other)
		return &other
	}
	bare := kernels.NewPlan(dev, kernels.PlanShape{Heads: 4, KVHeads: 2, HeadDim: 32, Capacity: 130, Rows: 100, Block: 16, Segment: 32})
	bare.Begin(30, 100)
	alloc := func(dims ...int) kernels.Tensor { return dev.Alloc(dev.Compute(), dims...) }
	cache := func(dt kernels.DType, dims ...int) kernels.KV {
		return kernels.KV{K: dev.Alloc(dt, dims...), V: dev.Alloc(dt, dims...)}
	}
	type call struct {
		op  string
		run func()
	}
	var calls []call
	bad := func(op string, run func()) { calls = append(calls, call{op, run}) }

	// Queries and keys that are not the plan's, in every operation that takes them.
	inputs := func(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
		bad("RankKeys", func() { dev.RankKeys(p, q, kv) })
		bad("RankLines", func() { dev.RankLines(p, q, kv, 16, 0.1) })
		bad("PoolBlocks", func() { dev.PoolBlocks(p, q, kv) })
		bad("SelectStrided", func() { dev.SelectStrided(p, q, kv, 8, kernels.Selection{}) })
		bad("AttendBlocks", func() { dev.AttendBlocks(alloc(100, 128), q, kv, p, nil) })
	}
	inputs(p, alloc(99, 128), kv)
	inputs(p, alloc(100, 64), kv)
	inputs(p, dev.Alloc(kernels.F16, 100, 128), kv)
	inputs(p, q.Tensor, cache(kernels.BF16, 2, 129, 32))
	inputs(p, q.Tensor, cache(kernels.BF16, 1, 140, 32))
	inputs(p, q.Tensor, cache(kernels.BF16, 4, 140, 32))
	inputs(p, q.Tensor, cache(kernels.BF16, 2, 140, 64))
	inputs(p, q.Tensor, cache(kernels.F16, 2, 140, 32))
	inputs(p, q.Tensor, kernels.KV{K: k.Tensor, V: dev.Alloc(kernels.BF16, 2, 140, 32)})
	bad("AttendBlocks", func() { dev.AttendBlocks(alloc(99, 128), q.Tensor, kv, p, nil) })
	bad("SelectFlex", func() { dev.SelectFlex(p, alloc(99, 128), 16, kernels.Flex{}) })

	// Plans that are not ready, or made for less.
	for _, p := range []*kernels.Plan{
		with(func(p *kernels.Plan) { p.Begin(0, 0) }), with(func(p *kernels.Plan) { p.Begin(-1, 100) }), with(func(p *kernels.Plan) { p.Begin(36, 100) }),
		with(func(p *kernels.Plan) { p.Begin(0, 135) }), with(func(p *kernels.Plan) { p.Block = 32 }), with(func(p *kernels.Plan) { p.Segment = 32 }),
	} {
		inputs(p, q.Tensor, kv)
		bad("SortKeys", func() { dev.SortKeys(p) })
		bad("SelectBlocks", func() { dev.SelectBlocks(p, kernels.Selection{}) })
		bad("SelectLines", func() { dev.SelectLines(p, kernels.Lines{}) })
		bad("SelectFlex", func() { dev.SelectFlex(p, q.Tensor, 16, kernels.Flex{}) })
	}
	for _, p := range []*kernels.Plan{bare, with(func(p *kernels.Plan) { p.Permuted = true })} {
		bad("RankLines", func() { dev.RankLines(p, q.Tensor, kv, 16, 0.1) })
		bad("SelectLines", func() { dev.SelectLines(p, kernels.Lines{}) })
		bad("SelectFlex", func() { dev.SelectFlex(p, q.Tensor, 16, kernels.Flex{}) })
	}
	striped := with(func(p *kernels.Plan) { p.Permuted, p.Striped = true, true })
	bad("AttendBlocks", func() { dev.AttendBlocks(alloc(100, 128), q.Tensor, kv, striped, all) })

	// Spans, strides, numbers of lines.
	for _, spans := range [][]kernels.Span{
		{{Lo: -1, Hi: 3}}, {{Lo: 0, Hi: 101}}, {{Lo: 5, Hi: 4}}, {{Lo: 50, Hi: 60}, {Lo: 10, Hi: 20}}, {{Lo: 0, Hi: 20}, {Lo: 19, Hi: 30}},
		{{Lo: 20, Hi: 20}, {Lo: 10, Hi: 15}},
	} {
		bad("AttendBlocks", func() { dev.AttendBlocks(alloc(100, 128), q.Tensor, kv, p, spans) })
	}
	for _, stride := range []int{-8, 0, 4, 16} {
		bad("SelectStrided", func() { dev.SelectStrided(p, q.Tensor, kv, stride, kernels.Selection{}) })
	}
	bad("SelectStrided", func() { dev.SelectStrided(bare, q.Tensor, kv, 0, kernels.Selection{}) })
	for _, last := range []int{-1, 0, 17} {
		bad("RankLines", func() { dev.RankLines(p, q.Tensor, kv, last, 0.1) })
		bad("SelectFlex", func() { dev.SelectFlex(p, q.Tensor, last, kernels.Flex{}) })
	}
	bad("SelectFlex", func() { dev.SelectFlex(p, q.Tensor, 16, kernels.Flex{Least: -1}) })
	for _, lines := range []kernels.Lines{{Columns: -1}, {Diagonals: -1}, {Sink: -1}, {Recent: -1}} {
		bad("SelectLines", func() { dev.SelectLines(p, lines) })
	}
	for i, c := range calls {
		if err := panics(c.run); err == nil || !strings.Contains(err.Error(), c.op+" ") && !strings.Contains(err.Error(), c.op+",") {
			t.Errorf("call %d: %s panics with %v, want a word on %s", i, c.op, err, c.op)
		}
	}
	dev.RankLines(p, q.Tensor, kv, 16, 0.1)
	dev.RankKeys(p, q.Tensor, kv)
	dev.SortKeys(p)
	dev.PoolBlocks(p, q.Tensor, kv)
	dev.SelectBlocks(p, kernels.Selection{})
	dev.SelectStrided(p, q.Tensor, kv, 8, kernels.Selection{})
	dev.AttendBlocks(alloc(100, 128), q.Tensor, kv, p, all)
	if err := dev.Err(); err != nil {
		t.Error(err)
	}
}

// panics is what f panics with, nil where it does not.
func panics(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	f()
	return nil
}

// testPlanShapes: a plan that cannot be panics.
func testPlanShapes(t *testing.T, dev kernels.Device) {
	for _, change := range []func(s *kernels.PlanShape){
		func(s *kernels.PlanShape) { s.Block = 0 }, func(s *kernels.PlanShape) { s.Segment = 0 }, func(s *kernels.PlanShape) { s.Segment = 24 },
		func(s *kernels.PlanShape) { s.Segment = 2 * kernels.MaxSegment }, func(s *kernels.PlanShape) { s.Heads = 0 },
		func(s *kernels.PlanShape) { s.KVHeads = 0 }, func(s *kernels.PlanShape) { s.KVHeads = 3 }, func(s *kernels.PlanShape) { s.HeadDim = 0 },
		func(s *kernels.PlanShape) { s.Rows = 0 }, func(s *kernels.PlanShape) { s.Capacity = 0 },
		func(s *kernels.PlanShape) { s.Stride = 3 }, func(s *kernels.PlanShape) { s.Stride = -4 },
	} {
		s := kernels.PlanShape{Heads: 4, KVHeads: 2, HeadDim: 32, Capacity: 100, Rows: 100, Block: 16, Segment: 32, Stride: 4}
		change(&s)
		if err := panics(func() { kernels.NewPlan(dev, s) }); err == nil || !strings.Contains(err.Error(), "plan of") {
			t.Errorf("a plan of %+v panics with %v", s, err)
		}
	}
}

// testEmptySpans: an empty span stands for nothing, wherever in a block it lies: no row of it is attended to.
func testEmptySpans(t *testing.T, dev kernels.Device) {
	c := sparseCase{block: 16, segment: 32,
		attendCase: attendCase{rows: 100, first: 30, heads: 4, kvHeads: 2, dim: 32, kv: kernels.BF16, spread: 1}}
	rng := rand.New(rand.NewPCG(33, 0))
	q, k, v := c.inputs(dev, rng)
	kv := kernels.KV{K: k.Tensor, V: v.Tensor}
	for _, spans := range [][]kernels.Span{
		nil, {{}}, {{Lo: 2, Hi: 2}}, {{Lo: 7, Hi: 7}, {Lo: 7, Hi: 7}}, {{Lo: 34, Hi: 34}, {Lo: 100, Hi: 100}},
		{{Lo: 0, Hi: 0}, {Lo: 20, Hi: 21}, {Lo: 40, Hi: 40}, {Lo: 60, Hi: 60}, {Lo: 70, Hi: 75}},
	} {
		c.spans = spans
		p := c.plan(dev)
		c.order(dev, rng, p)
		c.keep(dev, rng, p, 1)
		out := c.empty(dev)
		before := Values(t, dev, out)
		dev.AttendBlocks(out, q.Tensor, kv, p, spans)
		c.compare(t, dev, Values(t, dev, out), attention(&q, &k, &v, c.first, nil), before)
	}
}
