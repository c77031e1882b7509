package main

import (
	"time"

	"github.com/pbs-run/pbs-run/kernels"
)

// timed is a Device that sums the time of its operations by phase: by the clock where operations finish before they return, by marks in
// the queue of a device that has one. The device is a field, not embedded: an operation that nobody times would not compile,
// where it would be missing from the sums.
type timed struct {
	kernels.Memory
	dev    kernels.Device
	phases phases
	queue  marker
	marks  []interval
	single bool // the forward pass at hand is of one row: marks would cost more than they tell
}

// marker is a device whose operations are queued. Mark puts a mark behind all that is queued; Between waits for the second mark.
type marker interface {
	Mark() int
	Between(from, to int) time.Duration
	ClearMarks()
}

// interval is an operation between two marks.
type interval struct {
	to       *float64
	from, at int
}

// moment is the start of an operation.
type moment struct {
	time time.Time
	mark int
}

func newTimed(dev kernels.Device) *timed {
	t := &timed{Memory: dev, dev: dev}
	t.queue, _ = dev.(marker)
	return t
}

var _ kernels.Device = (*timed)(nil)

// phases is where time went, in seconds.
type phases struct {
	Rank   float64 `json:"rank"`   // keys by their softmax weight
	Sort   float64 `json:"sort"`   // inside segments
	Score  float64 `json:"score"`  // block means
	Select float64 `json:"select"` // pooled scores and the blocks kept
	Attend float64 `json:"attend"` // dense or sparse
	Linear float64 `json:"linear,omitempty"`
	Other  float64 `json:"other,omitempty"` // norms, RoPE, embedding
}

// take returns what was summed since the last take.
func (t *timed) take() phases {
	for _, m := range t.marks {
		*m.to += t.queue.Between(m.from, m.at).Seconds()
	}
	t.marks = t.marks[:0]
	if t.queue != nil {
		t.queue.ClearMarks()
	}
	p := t.phases
	t.phases = phases{}
	return p
}

// permute is the time for the order of the keys, choose that for the choice of blocks.
func (p phases) permute() float64 { return p.Rank + p.Sort }
func (p phases) choose() float64  { return p.Score + p.Select }

// Step has a device that can do so repeat decode steps.
func (t *timed) Step(key any, position int, id int32, queue func() error) error {
	s, ok := t.dev.(kernels.Stepper)
	if !ok {
		return queue()
	}
	t.single = true
	return s.Step(key, position, id, queue)
}

// Draw is for weights of an outline, which only a device that is a kernels.Drawer is given.
func (t *timed) Draw(dt kernels.DType, dims []int, r kernels.Recipe) kernels.Tensor {
	return t.dev.(kernels.Drawer).Draw(dt, dims, r)
}

func (t *timed) begin() moment {
	m := moment{time: time.Now()}
	if t.queue != nil && !t.single {
		m.mark = t.queue.Mark()
	}
	return m
}

func (t *timed) add(to *float64, start moment) {
	switch {
	case t.queue == nil:
		*to += time.Since(start.time).Seconds()
	case !t.single:
		t.marks = append(t.marks, interval{to, start.mark, t.queue.Mark()})
	}
}

// What follows is kernels.Device's arithmetic, each operation with the clock around it.

func (t *timed) Embed(out, table kernels.Tensor, ids []int32) {
	t.single = len(ids) == 1
	defer t.add(&t.phases.Other, t.begin())
	t.dev.Embed(out, table, ids)
}

func (t *timed) RMSNorm(out, x, weight kernels.Tensor, eps float32) {
	defer t.add(&t.phases.Other, t.begin())
	t.dev.RMSNorm(out, x, weight, eps)
}

func (t *timed) RopeAppend(q, qkv, rope kernels.Tensor, kv kernels.KV, first int) {
	defer t.add(&t.phases.Other, t.begin())
	t.dev.RopeAppend(q, qkv, rope, kv, first)
}

func (t *timed) MatMul(out, x kernels.Tensor, w kernels.Linear) {
	defer t.add(&t.phases.Linear, t.begin())
	t.dev.MatMul(out, x, w)
}

func (t *timed) MatMulAdd(out, x kernels.Tensor, w kernels.Linear) {
	defer t.add(&t.phases.Linear, t.begin())
	t.dev.MatMulAdd(out, x, w)
}

func (t *timed) SwiGLU(out, x kernels.Tensor, gate, up kernels.Linear) {
	defer t.add(&t.phases.Linear, t.begin())
	t.dev.SwiGLU(out, x, gate, up)
}

func (t *timed) Attend(out, q kernels.Tensor, kv kernels.KV, first int) {
	defer t.add(&t.phases.Attend, t.begin())
	t.dev.Attend(out, q, kv, first)
}

func (t *timed) AttendBlocks(out, q kernels.Tensor, kv kernels.KV, p *kernels.Plan, spans []kernels.Span) {
	defer t.add(&t.phases.Attend, t.begin())
	t.dev.AttendBlocks(out, q, kv, p, spans)
}

func (t *timed) RankKeys(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	defer t.add(&t.phases.Rank, t.begin())
	t.dev.RankKeys(p, q, kv)
}

func (t *timed) SortKeys(p *kernels.Plan) {
	defer t.add(&t.phases.Sort, t.begin())
	t.dev.SortKeys(p)
}

func (t *timed) PoolBlocks(p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	defer t.add(&t.phases.Score, t.begin())
	t.dev.PoolBlocks(p, q, kv)
}

func (t *timed) SelectBlocks(p *kernels.Plan, rule kernels.Selection) {
	defer t.add(&t.phases.Select, t.begin())
	t.dev.SelectBlocks(p, rule)
}

// plus adds share times q to p.
func (p phases) plus(q phases, share float64) phases {
	p.Rank += share * q.Rank
	p.Sort += share * q.Sort
	p.Score += share * q.Score
	p.Select += share * q.Select
	p.Attend += share * q.Attend
	p.Linear += share * q.Linear
	p.Other += share * q.Other
	return p
}

func (t *timed) SelectStrided(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, stride int, rule kernels.Selection) {
	defer t.add(&t.phases.Select, t.begin())
	t.dev.SelectStrided(p, q, kv, stride, rule)
}

func (t *timed) RankLines(p *kernels.Plan, q kernels.Tensor, kv kernels.KV, last int, scale float32) {
	defer t.add(&t.phases.Rank, t.begin())
	t.dev.RankLines(p, q, kv, last, scale)
}

func (t *timed) SelectLines(p *kernels.Plan, lines kernels.Lines) {
	defer t.add(&t.phases.Select, t.begin())
	t.dev.SelectLines(p, lines)
}

func (t *timed) SelectFlex(p *kernels.Plan, q kernels.Tensor, last int, rule kernels.Flex) {
	defer t.add(&t.phases.Select, t.begin())
	t.dev.SelectFlex(p, q, last, rule)
}
