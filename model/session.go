package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kvcache"
)

// Session is one sequence: its KV cache and every buffer a forward pass needs, allocated at the start and never again.
type Session struct {
	m       *Model
	memory  Plan
	shared  map[kernels.PlanShape]*kernels.Plan // those allocated so far
	methods []attention.Method                  // by layer
	specs   []string                            // of those
	plans   []*kernels.Plan                     // by layer; nil where the method needs none
	density density
	cache   *kvcache.Cache
	rows    int // longest forward pass

	resid  kernels.Tensor // [rows, hidden] F32: the residual stream
	q      kernels.Tensor // [rows, heads·headDim]: queries, then attention's output
	norm   kernels.Tensor // [tile, hidden]
	qkv    kernels.Tensor // [tile, (heads+2·kvHeads)·headDim] F32
	act    kernels.Tensor // [tile, intermediate]
	rope   kernels.Tensor // [capacity, headDim] F32: cos, then sin
	logits kernels.Tensor // [logitRows, vocab] F32
	host   kernels.Tensor // logits as the caller sees them
	last   []int          // scratch: the one position that Generate asks for
	spans  spans          // scratch of a layer

	progress progress
	// WholeLastLayer computes the last layer for every row, as engines without that saving do, to compare like with like.
	WholeLastLayer bool
	// AfterLayer, if set, sees the residual stream [n, hidden] F32 after the embedding (layer -1) and after each layer. Rows
	// nobody asked for are not up to date after the last layer.
	AfterLayer func(layer int, resid kernels.Tensor) error
	// BeforeAttention, if set, sees each layer's queries [n, heads·headDim] of positions first.. after RoPE, and its cache
	// that holds the keys and values up to them. In a dense last layer only the queries that are needed are there, unless
	// WholeLastLayer.
	BeforeAttention func(layer int, q kernels.Tensor, kv kernels.KV, first int) error
	// CompareUnpermuted has Density tell what methods that reorder keys would keep if they did not, for the price of a second
	// selection.
	CompareUnpermuted bool
}

// NewSession allocates what plan lists.
func (m *Model) NewSession(plan Plan) (*Session, error) {
	dev, dt := m.dev, m.dev.Compute()
	tile, heads := min(tileRows, plan.Rows), m.Heads*m.HeadDim
	logitRows := m.logitRows(plan.Rows)
	s := &Session{
		m: m, memory: plan, shared: map[kernels.PlanShape]*kernels.Plan{}, rows: plan.Rows, density: newDensity(m.Layers, m.Heads),
		cache:  kvcache.New(dev, plan.KV, m.Layers, m.KVHeads, m.HeadDim, plan.Capacity),
		resid:  dev.Alloc(kernels.F32, plan.Rows, m.Hidden),
		q:      dev.Alloc(dt, plan.Rows, heads),
		norm:   dev.Alloc(dt, tile, m.Hidden),
		qkv:    dev.Alloc(kernels.F32, tile, heads+2*m.KVHeads*m.HeadDim),
		act:    dev.Alloc(dt, tile, m.Intermediate),
		rope:   dev.Alloc(kernels.F32, plan.Capacity, m.HeadDim),
		logits: dev.Alloc(kernels.F32, logitRows, m.Vocab),
		host:   kernels.FromFloat32(make([]float32, logitRows*m.Vocab), logitRows, m.Vocab),
		last:   make([]int, 1),
	}
	s.progress.m = m
	err := s.SetMethods(plan.Methods)
	if err != nil {
		return nil, fmt.Errorf("start session of %s: %w", GiB(plan.Total()), err)
	}
	dev.Upload(s.rope, m.Rope.table(m.HeadDim, plan.Capacity).Data)
	return s, dev.Err()
}

// SetMethods has later prefills attend by other methods: one for every layer, or one for all. It allocates only where a method
// has blocks or segments that no earlier one had.
func (s *Session) SetMethods(methods []attention.Method) error {
	s.memory.Methods = methods
	s.methods, s.specs, s.plans = nil, nil, nil
	for i := range s.m.Layers {
		shape := s.m.sparseShape(s.memory, i)
		if s.shared[shape] == nil && shape.Block > 0 {
			s.shared[shape] = kernels.NewPlan(s.m.dev, shape)
		}
		s.methods = append(s.methods, s.memory.method(i))
		s.specs = append(s.specs, s.memory.method(i).String())
		s.plans = append(s.plans, s.shared[shape])
	}
	return s.m.dev.Err()
}

// OnProgress has f told, during forward passes of more than one row, which layer runs and how much of the pass is done, 0 to 1.
func (s *Session) OnProgress(f func(layer int, done float64)) { s.progress.report = f }

// Truncate forgets the tokens from n on, so that a following turn reuses the first n.
func (s *Session) Truncate(n int) { s.cache.Truncate(n) }

// table returns cos and sin of every position's angles, [positions, headDim] with the cosines in the first half of a row.
// Angles are rounded to float32, as in Hugging Face, whose numbers people compare with.
func (r Rope) table(headDim, positions int) kernels.Tensor {
	freqs, half := r.frequencies(headDim), headDim/2
	table := make([]float32, positions*headDim)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for p := w; p < positions; p += workers {
				row := table[p*headDim:][:headDim]
				for i, f := range freqs {
					sin, cos := math.Sincos(float64(float32(p) * f))
					row[i], row[half+i] = float32(cos), float32(sin)
				}
			}
		})
	}
	wg.Wait()
	return kernels.FromFloat32(table, positions, headDim)
}

// ErrNotFinite is what a forward pass whose logits hold NaN or Inf ends with.
var ErrNotFinite = errors.New("logits are not finite")

// Logits appends ids to the sequence and calls visit with the logits of the wanted positions, ascending indices into ids,
// which visit must not keep.
func (s *Session) Logits(ctx context.Context, ids []int32, want []int, visit func(i int, logits []float32) error) error {
	defer s.interruptible(ctx)()
	return s.logitsOf(ctx, ids, want, visit)
}

// interruptible has the end of ctx interrupt the device until the function that it returns is called, after which the device
// works again. That call waits for an interruption on its way: it would otherwise strike whatever comes next.
func (s *Session) interruptible(ctx context.Context) (end func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.m.dev.Interrupt()
		close(done)
	})
	return func() {
		if !stop() {
			<-done
			s.m.dev.Resume()
		}
	}
}

// logitsOf is Logits for a caller that has arranged for ctx to interrupt the device.
func (s *Session) logitsOf(ctx context.Context, ids []int32, want []int, visit func(i int, logits []float32) error) error {
	if len(ids) == 0 || len(ids) > s.rows || s.cache.Len()+len(ids) > s.cache.Cap() {
		return fmt.Errorf("forward pass of %d tokens after %d: the session was planned for %d at a time and %d in all", len(ids), s.cache.Len(), s.rows, s.cache.Cap())
	}
	for i, p := range want {
		if p < 0 || p >= len(ids) || i > 0 && p <= want[i-1] {
			return fmt.Errorf("wanted positions must ascend within 0 to %d", len(ids)-1)
		}
	}
	for _, id := range ids {
		if id < 0 || int(id) >= s.m.Vocab {
			return fmt.Errorf("token id %d is outside the vocabulary of %d", id, s.m.Vocab)
		}
	}
	if err := s.forward(ctx, ids, want); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	first := s.cache.Len()
	s.cache.Advance(len(ids))
	err := s.head(first, want, visit)
	if errors.Is(err, kernels.ErrInterrupted) {
		return context.Cause(ctx)
	}
	return err
}

// head runs the final norm and the output matrix for the wanted rows and hands their logits out, a bounded number at a time.
func (s *Session) head(first int, want []int, visit func(i int, logits []float32) error) error {
	dev, m := s.m.dev, s.m
	for len(want) > 0 {
		n := 1 // wanted rows that lie side by side
		for n < len(want) && n < s.logits.Rows() && n < s.norm.Rows() && want[n] == want[0]+n {
			n++
		}
		norm, logits, host := s.norm.Slice(0, n), s.logits.Slice(0, n), s.host.Slice(0, n)
		dev.RMSNorm(norm, s.resid.Slice(want[0], want[0]+n), m.norm, m.Eps) // [n, hidden]
		dev.MatMul(logits, norm, m.head)                                    // [n, vocab]
		if err := dev.Download(host.Data, logits); err != nil {
			return err
		}
		for i := range n {
			row := host.Slice(i, i+1).Float32()
			if !finite(row) {
				return fmt.Errorf("position %d: %w", first+want[i], ErrNotFinite)
			}
			if err := visit(want[i], row); err != nil {
				return err
			}
		}
		want = want[n:]
	}
	return nil
}

// finite reports whether no element is NaN or Inf: then, and only then, x-x is 0.
func finite(x []float32) bool {
	var sum float32
	for _, v := range x {
		sum += v - v
	}
	return sum == 0
}
