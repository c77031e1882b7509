package attention_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// lines are the means by key and by distance of the causal softmax of head h's last queries, their scores divided by by.
func (c small) lines(h, last int, by float64) (column, distance []float64) {
	n := c.keys()
	column, distance = make([]float64, n), make([]float64, n)
	for i := n - last; i < n; i++ {
		p := make([]float64, i+1)
		for j := range p {
			p[j] = c.score(h, i, j) / by
		}
		for j, x := range softmax(p) {
			column[j] += x / float64(last)
			distance[i-j] += x / float64(last)
		}
	}
	return column, distance
}

// heaviest are the n places of x with the largest values after the first forced ones, and the gap to what is left out.
func heaviest(x []float64, n, forced int) (map[int]bool, float64) {
	x = append([]float64(nil), x...)
	for i := range min(n, forced) {
		x[i] = math.Inf(1)
	}
	keep, by := map[int]bool{}, order(x)
	for _, i := range by[:n] {
		keep[i] = true
	}
	if n == len(x) || n <= forced {
		return keep, 1
	}
	return keep, (x[by[n-1]] - x[by[n]]) / x[by[n]]
}

func TestMInference(t *testing.T) {
	const block = 64
	m := attention.MInference{Vertical: 40, Slash: 120}
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, c := range smalls() {
			out, p := c.run(t, dev, m)
			n := c.keys()
			touched := make([]map[[2]int]bool, c.heads)
			for h := range c.heads {
				column, distance := c.lines(h, min(64, c.rows), 1)
				for x, want := range column {
					if got := floatAt(p.Rank, h, x); math.Abs(got-want) > 1e-5 {
						t.Fatalf("%v: head %d, key %d has %v, want %v", c, h, x, got, want)
					}
				}
				for x, want := range distance {
					if got := floatAt(p.Slash, h, n-1-x); math.Abs(got-want) > 1e-5 {
						t.Fatalf("%v: head %d, distance %d has %v, want %v", c, h, x, got, want)
					}
				}
				columns, gap := heaviest(column, 40, 30)
				distances, gap2 := heaviest(distance, 120, 100)
				for x := range n {
					if gap > 1e-4 && bitSet(p.Columns, h, x) != columns[x] || gap2 > 1e-4 && bitSet(p.Diagonals, h, x) != distances[x] {
						t.Errorf("%v: head %d: column %d is %v, distance %d is %v", c, h, x, bitSet(p.Columns, h, x), x, bitSet(p.Diagonals, h, x))
					}
				}
				touched[h] = map[[2]int]bool{}
				for i := range p.KeyBlocks() * block {
					for j := range i + 1 {
						if i-j < n && bitSet(p.Diagonals, h, i-j) {
							touched[h][[2]int{i / block, j / block}] = true
						}
					}
				}
				for a := p.FirstBlock(); a < p.KeyBlocks(); a++ {
					blocks, single := 0, 0
					for j := range (a + 1) * block {
						if j%block == 0 && touched[h][[2]int{a, j / block}] {
							blocks++
						}
						if j < n && bitSet(p.Columns, h, j) && !touched[h][[2]int{a, j / block}] {
							single++
						}
					}
					want := blocks + (single+block-1)/block
					if got := binary.LittleEndian.Uint32(p.Kept.Data[4*(h*p.Kept.Stride+a-p.FirstBlock()):]); int(got) != want {
						t.Errorf("%v: head %d, query block %d counts %d blocks, want %d", c, h, a, got, want)
					}
				}
			}
			c.check(t, out, func(h, i, j int) bool { return bitSet(p.Columns, h, j) || touched[h][[2]int{i / block, j / block}] })
			c.same(t, dev, m, out)
		}
	})
}

func floatAt(t kernels.Tensor, h, i int) float64 {
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*(h*t.Stride+i):])))
}
