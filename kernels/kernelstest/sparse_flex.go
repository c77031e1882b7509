package kernelstest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// flexError is the relative error of what FlexPrefill compares, all of it computed in f32 from sums in f64.
const flexError = 2e-5

// testSelectFlex plants masses of keys and distances, some strong, and means of blocks, so that some heads are query-aware.
func testSelectFlex(t *testing.T, dev kernels.Device) {
	heads, aware, unclear := 0, 0, 0
	for i, c := range lineCases() {
		if i%2 == 1 && c.first+c.rows < 4000 {
			continue
		}
		t.Run(c.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(28, uint64(i)))
			q, _, _ := c.inputs(dev, rng)
			for _, rule := range []kernels.Flex{
				{Gamma: 0.9, Tau: 0.1, Least: 2}, {Gamma: 0.6, Tau: 0.9, Least: 1}, {Gamma: 0.95, Tau: 0.5, Least: 1 + i%5},
				{Gamma: 0.3, Tau: 0, Least: 1}, {Gamma: 1, Tau: 1, Least: 1},
			} {
				p := c.plan(dev)
				for _, x := range c.flex(t, dev, rng, p, &q, rule) {
					heads++
					if x.aware {
						aware++
					}
					if x.slack < flexError {
						unclear++
					}
				}
			}
		})
	}
	if 10*unclear > heads || 5*aware < heads || 5*aware > 4*heads {
		t.Errorf("of %d heads %d are query-aware and %d too close to call: the cases test little", heads, aware, unclear)
	}
}

// flex plants a plan, lets dev choose and compares; it returns what each head should have kept.
func (c lineCase) flex(t *testing.T, dev kernels.Device, rng *rand.Rand, p *kernels.Plan, q *cube, rule kernels.Flex) []flexChoice {
	t.Helper()
	n, blocks := p.Keys(), p.KeyBlocks()
	rank, slash := filled(p.Rank, float32(math.NaN())), filled(p.Slash, float32(math.NaN()))
	qMeans, kMeans := filled(p.QMean, float32(math.NaN())), filled(p.KMean, float32(math.NaN()))
	choices := make([]flexChoice, c.heads)
	for h := range choices {
		draw := func(x []float32) {
			sum := 0.0
			for i := range x {
				x[i] = float32(math.Exp(rng.NormFloat64()))
				if rng.IntN(20) == 0 {
					x[i] *= 40
				}
				sum += float64(x[i])
			}
			for i := range x {
				x[i] = float32(float64(x[i]) / sum)
			}
		}
		draw(rank[h*p.Rank.Stride:][:n])
		draw(slash[h*p.Slash.Stride:][:n])
		means := func(data []float32, of kernels.Tensor, n int) [][]float64 {
			rows := make([][]float64, n)
			for b := range rows {
				for d := range c.dim {
					x := float32(rng.NormFloat64())
					data[(h*of.Dims[1]+b)*of.Stride+d] = x
					rows[b] = append(rows[b], float64(x))
				}
			}
			return rows
		}
		qMean, kMean := means(qMeans, p.QMean, p.QueryBlocks()), means(kMeans, p.KMean, blocks)
		lastMean := make([]float64, c.dim)
		for i := c.rows - c.last; i < c.rows; i++ {
			for d, x := range q.row(0, i)[h*c.dim : (h+1)*c.dim] {
				lastMean[d] += x / float64(c.last)
			}
		}
		choices[h] = selectFlex(p, rank[h*p.Rank.Stride:], slash[h*p.Slash.Stride:], lastMean, qMean, kMean, rule)
	}
	upload(dev, p.Rank, rank)
	upload(dev, p.Slash, slash)
	upload(dev, p.QMean, qMeans)
	upload(dev, p.KMean, kMeans)
	dev.SelectFlex(p, q.Tensor, c.last, rule)
	err := c.compareKept(t, dev, p, func(h, b int) ([]bool, bool) {
		return choices[h].keep[b], !(choices[h].slack < flexError)
	})
	if err != nil {
		t.Errorf("%+v, %v", rule, err)
	}
	return choices
}
