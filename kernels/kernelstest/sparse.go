package kernelstest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// sparseCase is one shape of the operations on a Plan.
type sparseCase struct {
	attendCase
	block, segment int
	permuted       bool
	stride         int            // of SelectStrided
	lines          bool           // the plan has columns and diagonals
	spans          []kernels.Span // of AttendBlocks
}

func (c sparseCase) String() string {
	s := fmt.Sprintf("%d/%d-%v", c.block, c.segment, c.attendCase)
	if c.permuted {
		s += "-permuted"
	}
	if len(c.spans) > 1 {
		s += fmt.Sprintf("-spans%d", len(c.spans))
	}
	return s
}

// sparseCases crosses blocks and segments with lengths at their edges: less than a segment, one more or less than whole ones,
// tails of a position and of a block less one. All else is drawn, alike every time: whole prompts, suffixes shorter than a
// block and those that start inside one.
func sparseCases() []sparseCase {
	var cases []sparseCase
	rng := rand.New(rand.NewPCG(11, 0))
	for _, block := range []int{16, 17, 48, 64, 128} {
		for _, s := range []int{block, 2 * block, 4 * block} {
			for n, keys := range []int{block + 3, s - 1, s, s + 1, 2*s + 1, 2*s + block - 1, 3*s - 1, 3 * s} {
				c := drawCase(rng, block, s, keys, n%3)
				for c.cost() > 4e6 {
					c = drawCase(rng, block, s, keys, rng.IntN(3))
				}
				cases = append(cases, c)
			}
		}
	}
	return cases
}

// cost is how often the oracle of attention multiplies.
func (c sparseCase) cost() int { return c.heads * c.rows * (c.first + c.rows) * c.dim }

func drawCase(rng *rand.Rand, block, segment, keys, from int) sparseCase {
	c := sparseCase{block: block, segment: segment, permuted: rng.IntN(4) > 0}
	switch from {
	case 1:
		c.first = block/2 + 1 + rng.IntN(max(1, keys/2))
	case 2:
		c.first = max(0, keys-1-rng.IntN(block-1))
	}
	c.first = min(c.first, keys-1)
	c.rows = keys - c.first
	c.kvHeads = 1 + rng.IntN(2)
	c.heads = c.kvHeads * []int{1, 2, 4, 7}[rng.IntN(4)]
	c.dim = []int{32, 64, 80, 96, 128, 256}[rng.IntN(6)]
	c.kv = []kernels.DType{kernels.BF16, kernels.F32}[rng.IntN(2)]
	c.gap, c.alias, c.spread = 2*rng.IntN(3), rng.IntN(2) == 0, 1+2*float64(rng.IntN(2))
	c.spans = []kernels.Span{{Lo: 0, Hi: c.rows}}
	if rng.IntN(2) == 0 && c.rows > 4 {
		// Two spans inside a block, one across blocks, the last row: whatever of it the rows allow.
		a, b := c.rows/4, c.rows/2
		c.spans = []kernels.Span{{Lo: a - 1, Hi: a}, {Lo: a + 1, Hi: b}, {Lo: c.rows - 1, Hi: c.rows}}
	}
	return c
}

// plan is a Plan longer and wider than the case, whose tensors hold NaN or what no result is made of.
func (c sparseCase) plan(dev kernels.Device) *kernels.Plan {
	p := kernels.NewPlan(dev, kernels.PlanShape{
		Heads: c.heads, KVHeads: max(1, c.kvHeads), HeadDim: c.dim, Capacity: c.first + c.rows + 5, Rows: c.rows + c.block, Block: c.block, Segment: c.segment,
		Stride: c.stride, Lines: c.lines,
	})
	p.Begin(c.first, c.rows)
	p.Permuted = c.permuted
	floats, words := []kernels.Tensor{p.Rank, p.QMean, p.KMean}, []kernels.Tensor{p.Keep}
	if c.lines {
		floats, words = append(floats, p.Slash), append(words, p.Columns, p.Diagonals)
	}
	for _, x := range floats {
		upload(dev, x, filled(x, float32(math.NaN())))
	}
	for _, x := range words {
		upload(dev, x, filled(x, uint64(unwritten)))
	}
	upload(dev, p.Kept, filled(p.Kept, uint32(unwritten)))
	return p
}

// unwritten stands in integer tensors where no kernel has written.
const unwritten = 0xdeadbeef

// order puts random orders into p.Perm, zeros where keys stand in their own, and returns them. If p is not permuted they are not
// in force.
func (c sparseCase) order(dev kernels.Device, rng *rand.Rand, p *kernels.Plan) [][]int {
	perm, order := filled(p.Perm, uint16(0)), make([][]int, c.heads)
	for h := range order {
		order[h] = make([]int, p.Keys())
		for place := range order[h] {
			order[h][place] = place
		}
		for base := 0; base < p.Sorted(); base += p.Segment {
			for i, key := range rng.Perm(p.Segment) {
				perm[h*p.Perm.Stride+base+i] = uint16(key)
				if p.Permuted {
					order[h][base+i] = base + key
				}
			}
		}
	}
	upload(dev, p.Perm, perm)
	return order
}

// inSpan reports whether row i is wanted.
func (c sparseCase) inSpan(i int) bool {
	for _, s := range c.spans {
		if i >= s.Lo && i < s.Hi {
			return true
		}
	}
	return false
}

// filled is a tensor's worth of v. upload and download move elements of integer types, too.
func filled[T any](x kernels.Tensor, v T) []T {
	data := make([]T, x.Dims[0]*x.Dims[1]*x.Stride)
	for i := range data {
		data[i] = v
	}
	return data
}

func upload[T any](dev kernels.Device, x kernels.Tensor, data []T) {
	raw, err := binary.Append(nil, binary.LittleEndian, data)
	if err != nil {
		panic(err)
	}
	dev.Upload(x, raw)
}

func download[T any](t *testing.T, dev kernels.Device, x kernels.Tensor) []T {
	t.Helper()
	raw := make([]byte, x.Bytes())
	if err := dev.Download(raw, x); err != nil {
		t.Fatal(err)
	}
	data := make([]T, len(raw)/x.DType.Size())
	if _, err := binary.Decode(raw, binary.LittleEndian, data); err != nil {
		t.Fatal(err)
	}
	return data
}
