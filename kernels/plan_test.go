package kernels_test

import (
	"fmt"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
)

// Spans of rows meet each query block once.
func TestPlanBlocks(t *testing.T) {
	p := &kernels.Plan{Block: 16}
	p.Begin(40, 100) // blocks 2 to 8
	var got []kernels.Span
	var b kernels.Span
	for _, s := range []kernels.Span{{Lo: 0, Hi: 1}, {Lo: 1, Hi: 1}, {Lo: 2, Hi: 8}, {Lo: 9, Hi: 30}, {Lo: 40, Hi: 40}, {Lo: 99, Hi: 100}} {
		b = p.Blocks(s, b.Hi)
		got = append(got, b)
	}
	if got, want := fmt.Sprint(got), "[{0 1} {1 1} {1 1} {1 3} {3 3} {6 7}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
