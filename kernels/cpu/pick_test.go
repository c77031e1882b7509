package cpu

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// pickBySorting is pbs_pick_heaviest by its definition: weights in descending order, equal ones as they stand, NaN before all, until
// together they reach the mass.
func pickBySorting(weights []float32, lo, hi int, mass float64, count bool) map[int]bool {
	order := make([]int, hi-lo)
	for i := range order {
		order[i] = lo + i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(math.Float32bits(weights[b])&math.MaxInt32, math.Float32bits(weights[a])&math.MaxInt32)
	})
	picked := map[int]bool{}
	for _, i := range order {
		if mass <= 0 {
			break
		}
		picked[i] = true
		if count {
			mass--
		} else {
			mass -= float64(weights[i])
		}
	}
	return picked
}

// The fewest heaviest weights are picked, on every instruction set, around the widths of vectors, among equal, zero, denormal, huge,
// infinite and NaN weights. Weights that are summed are multiples of 2⁻¹⁰, so that their order does not matter.
func TestPickHeaviest(t *testing.T) {
	nan := math.Float32frombits(0xffc00000) // x86's own, its sign set
	kinds := map[string]func(rng *rand.Rand) float32{
		"spread": func(rng *rand.Rand) float32 { return float32(rng.IntN(1024)) / 1024 },
		"equal":  func(rng *rand.Rand) float32 { return 1 },
		"two":    func(rng *rand.Rand) float32 { return float32(1 + rng.IntN(2)) },
		"zeros":  func(rng *rand.Rand) float32 { return float32(rng.IntN(2) * rng.IntN(3)) },
		"extreme": func(rng *rand.Rand) float32 {
			return []float32{0, 1e-40, 1, math.MaxFloat32, float32(math.Inf(1)), nan}[rng.IntN(6)]
		},
	}
	devices(t, 1, func(t *testing.T, d *Device) {
		j := &sparseJob{set: d.attendSet()}
		rng := rand.New(rand.NewPCG(7, 7))
		for kind, draw := range kinds {
			for _, n := range []int{1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 500} {
				weights, total := make([]float32, n), 0.0
				for i := range weights {
					weights[i] = draw(rng)
					total += float64(weights[i])
				}
				for _, count := range []bool{true, false} {
					if !count && kind == "extreme" {
						continue // such weights have no sum that all orders agree on
					}
					whole := total
					if count {
						whole = float64(n)
					}
					for _, share := range []float64{0, 1e-9, 0.1, 0.5, 0.9, 1, 1.1, math.Inf(1)} {
						lo, mass := rng.IntN(n), share*whole
						if math.IsNaN(mass) {
							continue
						}
						keep := make([]uint64, (n+63)/64)
						j.pickHeaviest(weights, lo, n, mass, count, keep)
						want := pickBySorting(weights, lo, n, mass, count)
						for i := range n {
							if got := keep[i/64]>>(i%64)&1 == 1; got != want[i] {
								t.Fatalf("%s, mass %g of %g, count %v: weight %d of [%d, %d): %v, want %v", kind, mass, whole, count, i, lo, n, got, want[i])
							}
						}
					}
				}
			}
		}
	})
}
