package kernels

import "fmt"

// What the arguments of operations have to be, whatever the device. Misshapen ones are bugs of the caller and panic.

func (s PlanShape) check() {
	switch {
	case s.Block < 1 || s.Segment < s.Block || s.Segment%s.Block != 0 || s.Segment > MaxSegment:
		panic(fmt.Sprintf("kernels: plan of blocks of %d in segments of %d", s.Block, s.Segment))
	case s.KVHeads < 1 || s.Heads < s.KVHeads || s.Heads%s.KVHeads != 0 || s.HeadDim < 1:
		panic(fmt.Sprintf("kernels: plan of %d heads of %d over %d KV heads", s.Heads, s.HeadDim, s.KVHeads))
	case s.Rows < 1 || s.Capacity < 1:
		panic(fmt.Sprintf("kernels: plan of %d queries and %d keys", s.Rows, s.Capacity))
	case s.Stride < 0 || s.Stride > 0 && s.Block%s.Stride != 0:
		panic(fmt.Sprintf("kernels: plan of strides of %d in blocks of %d", s.Stride, s.Block))
	}
}

// Check panics unless op finds the plan's queries and keys within what it was made for. op is the operation's name.
func (p *Plan) Check(op string) {
	s := p.shape
	if p.Rows < 1 || p.First < 0 || p.Keys() > s.Capacity || p.Block != s.Block || p.Segment != s.Segment || p.Rows > s.Rows {
		panic(fmt.Sprintf("kernels: %s of %d queries at %d in blocks of %d and segments of %d by a plan of %+v", op, p.Rows, p.First, p.Block, p.Segment, s))
	}
}

// CheckInputs is Check, and panics unless q, of dtype compute, and kv are those of the plan's heads.
func (p *Plan) CheckInputs(op string, compute DType, q Tensor, kv KV) {
	p.CheckQueries(op, compute, q)
	k, v := kv.K, kv.V
	switch {
	case k.Dims[0] != p.shape.KVHeads || k.Cols() != p.shape.HeadDim || k.Rows() < p.Keys():
		panic(fmt.Sprintf("kernels: %s with keys %v for %d keys and a plan of %+v", op, k.Dims, p.Keys(), p.shape))
	case k.DType != BF16 && k.DType != F32 || v.DType != k.DType || v.Dims != k.Dims || v.Stride != k.Stride:
		panic(fmt.Sprintf("kernels: %s with keys %v %v, values %v %v", op, k.DType, k.Dims, v.DType, v.Dims))
	}
}

// CheckQueries is CheckInputs of an operation that takes no keys.
func (p *Plan) CheckQueries(op string, compute DType, q Tensor) {
	p.Check(op)
	if q.DType != compute || q.Dims != [3]int{1, p.Rows, p.shape.Heads * p.shape.HeadDim} {
		panic(fmt.Sprintf("kernels: %s of q %v %v, want %v [%d, %d]", op, q.DType, q.Dims, compute, p.Rows, p.shape.Heads*p.shape.HeadDim))
	}
}

// CheckAttend is CheckInputs for AttendBlocks, and panics unless out is shaped like q, and spans ascend, do not overlap and lie within the
// plan's queries.
func (p *Plan) CheckAttend(compute DType, out, q Tensor, kv KV, spans []Span) {
	p.CheckInputs("AttendBlocks", compute, q, kv)
	last := 0
	for _, s := range spans {
		if s.Lo < last || s.Hi < s.Lo || s.Hi > p.Rows {
			panic(fmt.Sprintf("kernels: AttendBlocks for queries %d to %d of %d after %d: want ranges that ascend", s.Lo, s.Hi, p.Rows, last))
		}
		last = s.Hi
	}
	if out.DType != q.DType || out.Dims != q.Dims {
		panic(fmt.Sprintf("kernels: AttendBlocks of q %v %v to out %v %v", q.DType, q.Dims, out.DType, out.Dims))
	}
	if p.Striped {
		p.CheckLines("AttendBlocks with columns")
	}
}

// CheckStride panics unless p is a plan for SelectStrided with stride.
func (p *Plan) CheckStride(op string, stride int) {
	if stride < 1 || stride != p.shape.Stride {
		panic(fmt.Sprintf("kernels: %s with strides of %d by a plan of %+v", op, stride, p.shape))
	}
}

// CheckLines panics unless p is a plan with lines, keys in their order and segments of one block.
func (p *Plan) CheckLines(op string) {
	p.Check(op)
	if !p.shape.Lines || p.Segment != p.Block || p.Permuted {
		panic(fmt.Sprintf("kernels: %s, permuted: %v, by a plan of %+v", op, p.Permuted, p.shape))
	}
}

// CheckLast panics unless op may look at so many last queries: at least one, and at most a block.
func (p *Plan) CheckLast(op string, last int) {
	if last < 1 || last > min(p.Block, p.Rows) {
		panic(fmt.Sprintf("kernels: %s over the last %d of %d queries in blocks of %d", op, last, p.Rows, p.Block))
	}
}

// Check panics where a number of lines is negative.
func (l Lines) Check(op string) {
	if min(l.Columns, l.Diagonals, l.Sink, l.Recent) < 0 {
		panic(fmt.Sprintf("kernels: %s of %+v", op, l))
	}
}

// Check panics where a number of blocks is negative.
func (f Flex) Check(op string) {
	if f.Least < 0 {
		panic(fmt.Sprintf("kernels: %s by %+v", op, f))
	}
}

// CheckProduct panics unless x, of dtype compute, the parts of w and out, of dtype want, fit together.
func CheckProduct(compute, want DType, out, x Tensor, w Linear) {
	if len(w) == 0 || x.Cols() == 0 {
		panic("kernels: product without weights or features")
	}
	CheckMatrix("x", x, compute, x.Rows(), x.Cols())
	CheckMatrix("out", out, want, x.Rows(), w.Out())
	for i := range w {
		w[i].check(w[i].W.Rows(), x.Cols())
	}
}

// CheckSwiGLU is CheckProduct for gate, and panics unless up has parts of the same sizes.
func CheckSwiGLU(compute DType, out, x Tensor, gate, up Linear) {
	if len(gate) != len(up) {
		panic(fmt.Sprintf("kernels: SwiGLU with %d gate parts and %d up parts", len(gate), len(up)))
	}
	CheckProduct(compute, compute, out, x, gate)
	for i := range up {
		up[i].check(gate[i].W.Rows(), x.Cols())
	}
}

func (p *Part) check(rows, cols int) {
	CheckMatrix("weight", p.W, p.W.DType, rows, cols)
	if !p.Bias.IsZero() {
		CheckMatrix("bias", p.Bias, p.Bias.DType, 1, rows)
	}
}

// CheckMatrix panics unless t is a [rows, cols] matrix of dtype dt and its memory, where that is the host's, holds it. A vector is a
// matrix of one row.
func CheckMatrix(name string, t Tensor, dt DType, rows, cols int) {
	if t.DType != dt || t.Dims != [3]int{1, rows, cols} || t.Stride < cols && rows > 1 {
		panic(fmt.Sprintf("kernels: %s is %v %v stride %d, want %v [%d, %d]", name, t.DType, t.Dims, t.Stride, dt, rows, cols))
	}
	if t.Addr == 0 && rows > 0 && ((rows-1)*t.Stride+cols)*t.DType.Size() > len(t.Data) {
		panic(fmt.Sprintf("kernels: %s %v stride %d has %d bytes", name, t.Dims, t.Stride, len(t.Data)))
	}
}
