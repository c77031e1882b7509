package main

import (
	"fmt"
	"io"
	"math"
)

// clocks are those of a device that has them: what its speed in a benchmark rests on.
type clocks struct {
	Core   int    `json:"clock_mhz,omitempty"`
	Most   int    `json:"clock_max_mhz,omitempty"`
	Memory int    `json:"memory_clock_mhz,omitempty"`
	Held   string `json:"clock_held_by,omitempty"` // what keeps them low, or why they are not known
}

// clocksOf reads them; a device without clocks of its own has none.
func clocksOf(dev device) (c clocks) {
	d, ok := dev.(interface {
		Clocks() (core, most, memory int, held string, err error)
	})
	if !ok {
		return c
	}
	var err error
	if c.Core, c.Most, c.Memory, c.Held, err = d.Clocks(); err != nil {
		return clocks{Held: err.Error()}
	}
	return c
}

// text is the column of a table.
func (c clocks) text() string {
	if c.Core == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", c.Core, c.Memory)
}

// noteClocks says what held clocks down, or that nobody knows them.
func noteClocks(to io.Writer, tokens int, spec string, c clocks) {
	switch {
	case c.Held == "":
	case c.Core == 0:
		fmt.Fprintf(to, "%d tokens, %s: clocks are not known: %s\n", tokens, spec, c.Held)
	default:
		fmt.Fprintf(to, "%d tokens, %s: the GPU ran at %d of %d MHz, held down by %s\n", tokens, spec, c.Core, c.Most, c.Held)
	}
}

// steady is the spread up to which runs count as the same measurement.
const steady = 0.1

// spread is the standard deviation of times over their mean; 0 for one.
func spread(x []float64) float64 {
	n := float64(len(x))
	if n < 2 {
		return 0
	}
	var sum, squares float64
	for _, v := range x {
		sum += v
	}
	for _, v := range x {
		squares += (v - sum/n) * (v - sum/n)
	}
	return math.Sqrt(squares/(n-1)) / (sum / n)
}

// spreadText is the column of a table, marked where runs disagree.
func spreadText(x float64) string {
	if x > steady {
		return fmt.Sprintf("%.1f %% !", 100*x)
	}
	return fmt.Sprintf("%.1f %%", 100*x)
}

// noteSpread warns of runs that disagree.
func noteSpread(to io.Writer, tokens int, spec string, x float64) {
	if x > steady {
		fmt.Fprintf(to, "%d tokens, %s: UNSTEADY: the runs spread by %.0f %%, more than %.0f %%: something else ran, or clocks changed; measure again\n", tokens, spec, 100*x, 100*steady)
	}
}
