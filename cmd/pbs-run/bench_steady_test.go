package main

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want float64
		text string
	}{{[]float64{3}, 0, "0.0 %"}, {[]float64{1, 1, 1}, 0, "0.0 %"}, {[]float64{0.9, 1, 1.1}, 0.1, "10.0 %"}, {[]float64{0.8, 1, 1.2}, 0.2, "20.0 % !"}} {
		if got := spread(c.x); math.Abs(got-c.want) > 1e-12 || spreadText(math.Round(got*1e9)/1e9) != c.text {
			t.Errorf("%v: %g, %s", c.x, got, spreadText(got))
		}
	}
}

// clocked is a device with clocks, or with none that can be read.
type clocked struct {
	device
	held string
	err  error
}

func (c clocked) Clocks() (core, most, memory int, held string, err error) {
	return 1410, 1980, 3201, c.held, c.err
}

// TestUnsteady: reports show clocks, and warn of runs that disagree and of clocks held down.
func TestUnsteady(t *testing.T) {
	if c := clocksOf(nil); c != (clocks{}) {
		t.Errorf("a CPU's clocks: %+v", c)
	}
	steady := lengthBench{Tokens: 1024, spec: "full", Spread: 0.02, clocks: clocksOf(clocked{})}
	slow := lengthBench{Tokens: 2048, spec: "pbs", Spread: 0.31, clocks: clocksOf(clocked{held: "power"})}
	blind := lengthBench{Tokens: 4096, spec: "full", clocks: clocksOf(clocked{err: errors.New("no library")})}
	var out strings.Builder
	if err := (benchReport{Lengths: []lengthBench{steady, slow, blind}, specs: nil}).print(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"1410/3201", "2048 tokens, pbs: UNSTEADY: the runs spread by 31 %", "2048 tokens, pbs: the GPU ran at 1410 of 1980 MHz, held down by power", "4096 tokens, full: clocks are not known: no library", "31.0 % !"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "1024 tokens, full:") {
		t.Errorf("a steady row has a note:\n%s", text)
	}
	out.Reset()
	row := attentionBench{Tokens: 512, spec: "pbs", Spread: 0.2, clocks: slow.clocks}
	if err := (attentionReport{Rows: []attentionBench{row}}).print(&out); err != nil || !strings.Contains(out.String(), "512 tokens, pbs: UNSTEADY") || !strings.Contains(out.String(), "1410/3201") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
