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
				for _, x := range c.flex(t, dev, rng, p, &q, rule, -1) {
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
	t.Run("NaN", func(t *testing.T) { testFlexNaN(t, dev) })
	if 10*unclear > heads || 5*aware < heads || 5*aware > 4*heads {
		t.Errorf("of %d heads %d are query-aware and %d too close to call: the cases test little", heads, aware, unclear)
	}
}

// testFlexNaN: a head with a mass that is NaN keeps all, so that it shows; others choose as ever.
func testFlexNaN(t *testing.T, dev kernels.Device) {
	c := lineCase{sparseCase{block: 16, segment: 16, lines: true,
		attendCase: attendCase{rows: 200, first: 33, heads: 3, kvHeads: 1, dim: 32, kv: kernels.BF16, spread: 1}}, 16}
	for seed, rule := range []kernels.Flex{{Gamma: 0.9, Tau: 0, Least: 1}, {Gamma: 0.9, Tau: 1, Least: 1}} {
		rng := rand.New(rand.NewPCG(31, uint64(seed)))
		q, _, _ := c.inputs(dev, rng)
		c.flex(t, dev, rng, c.plan(dev), &q, rule, 1)
	}
}

// flex plants masses and means, one NaN among the masses of head broken, lets dev choose and compares. It returns what each head should
// have kept.
func (c lineCase) flex(t *testing.T, dev kernels.Device, rng *rand.Rand, p *kernels.Plan, q *cube, rule kernels.Flex, broken int) []flexHead {
	t.Helper()
	rank, slash := filled(p.Rank, float32(math.NaN())), filled(p.Slash, float32(math.NaN()))
	qMeans, kMeans := filled(p.QMean, float32(math.NaN())), filled(p.KMean, float32(math.NaN()))
	heads := make([]flexHead, c.heads)
	for h := range heads {
		f := &heads[h]
		*f = flexHead{p: p, rule: rule, rank: rank[h*p.Rank.Stride:][:p.Keys()], slash: slash[h*p.Slash.Stride:][:p.Keys()]}
		drawMass(rng, f.rank)
		drawMass(rng, f.slash)
		if h == broken {
			f.rank[p.Keys()/3] = float32(math.NaN())
		}
		f.qMean = drawMeans(rng, qMeans, p.QMean, h, p.QueryBlocks())
		f.kMean = drawMeans(rng, kMeans, p.KMean, h, p.KeyBlocks())
		f.lastMean = make([]float64, c.dim)
		for i := c.rows - c.last; i < c.rows; i++ {
			for d, x := range q.row(0, i)[h*c.dim : (h+1)*c.dim] {
				f.lastMean[d] += x / float64(c.last)
			}
		}
		f.choose()
	}
	upload(dev, p.Rank, rank)
	upload(dev, p.Slash, slash)
	upload(dev, p.QMean, qMeans)
	upload(dev, p.KMean, kMeans)
	dev.SelectFlex(p, q.Tensor, c.last, rule)
	err := c.compareKept(t, dev, p, func(h, b int) ([]bool, bool) { return heads[h].keep[b], heads[h].slack >= flexError })
	if err != nil {
		t.Errorf("%+v, %v", rule, err)
	}
	return heads
}

// drawMass fills x with numbers whose sum is 1, some of them strong.
func drawMass(rng *rand.Rand, x []float32) {
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

// drawMeans fills the first n means of head h in the data of a tensor, and returns them.
func drawMeans(rng *rand.Rand, data []float32, of kernels.Tensor, h, n int) [][]float64 {
	means := make([][]float64, n)
	for b := range means {
		for d := range of.Cols() {
			x := float32(rng.NormFloat64())
			data[(h*of.Dims[1]+b)*of.Stride+d] = x
			means[b] = append(means[b], float64(x))
		}
	}
	return means
}
