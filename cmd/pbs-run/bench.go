package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
)

func benchCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "bench",
		Short: "Measure speed",
		Long: `Measure speed: of a model's whole prefill, or of one layer's attention.

  pbs-run bench prefill -m DIR --lengths 8K,16K,32K --attention full --attention pbs
  pbs-run bench attention --lengths 16K --head-dim 128 --attention pbs --density 0.1,0.3,1`,
	})
	cmd.AddCommand(leaves(benchPrefillCommand()), leaves(benchAttentionCommand()))
	return cmd
}

// maxLength bounds the tokens that a flag may ask for.
const maxLength = 1 << 24

// parseLengths reads numbers of tokens such as 2048 and 32K.
func parseLengths(words []string) ([]int, error) {
	var lengths []int
	for _, word := range words {
		digits, k := strings.CutSuffix(strings.ToUpper(strings.TrimSpace(word)), "K")
		n, err := strconv.Atoi(digits)
		unit := 1
		if k {
			unit = 1024
		}
		if err != nil || n < 1 || n > maxLength/unit {
			return nil, fmt.Errorf("--lengths %q: want numbers of tokens such as 2048 or 32K, up to %dK", word, maxLength/1024)
		}
		n *= unit
		lengths = append(lengths, n)
	}
	return lengths, nil
}

// force adds a density to a spec that chooses blocks by its own rule otherwise. Dense attention stays what it is, and auto is always
// sparse then.
func force(spec string, density float64) (string, error) {
	if density == 0 || spec == "full" {
		return spec, nil
	}
	if spec == "auto" {
		spec = defaultMethod
	}
	if _, err := attention.Parse(spec); err != nil {
		return "", err
	}
	separator := ","
	if !strings.Contains(spec, ":") {
		separator = ":"
	}
	forced := spec + separator + "density=" + strconv.FormatFloat(density, 'g', -1, 64)
	if _, err := attention.Parse(forced); err != nil {
		return "", fmt.Errorf("%g cannot be forced on %s; on pbs, pbs+ and meanpool it can, where their settings have no density", density, spec)
	}
	return forced, nil
}

func median(x []float64) float64 { return quantile(x, 0.5) }

// quantile interpolates between the two values nearest to the share q of the sorted ones.
func quantile(x []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(x))
	at := q * float64(len(s)-1)
	lo := int(math.Floor(at))
	hi := min(lo+1, len(s)-1)
	return s[lo] + (at-float64(lo))*(s[hi]-s[lo])
}

// breakEven is the length from which sparse prefill is the faster one at every longer length measured, interpolated on a
// logarithmic scale. crossed is false where it is so at all of them, and tokens then the shortest, or at none: tokens is 0.
func breakEven(points []point) (tokens int, crossed bool) {
	i := len(points)
	for i > 0 && points[i-1].Sparse < points[i-1].Full {
		i--
	}
	switch {
	case i == len(points):
		return 0, false
	case i == 0:
		return points[0].Tokens, false
	}
	gain := func(p point) float64 { return math.Log(p.Full / p.Sparse) }
	lo, hi := points[i-1], points[i]
	share := -gain(lo) / (gain(hi) - gain(lo))
	x := math.Log(float64(lo.Tokens)) + share*math.Log(float64(hi.Tokens)/float64(lo.Tokens))
	return int(math.Ceil(math.Exp(x))), true
}
