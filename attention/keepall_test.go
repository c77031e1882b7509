package attention_test

import (
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// What keeps everything is dense attention, and so is what is too short to be sparse.
func TestKeepAll(t *testing.T) {
	forEachSet(t, func(t *testing.T, dev kernels.Device) {
		for _, spec := range []string{
			"pbs:block=32,segment=64,tau=1", "pbs+:block=32,segment=64,tau=1", "meanpool:block=32,tau=1", "xattention:block=32,threshold=1",
			"pbs", "pbs+:segment=512", "meanpool:block=512", "xattention:block=512",
			"flexprefill", "flexprefill:block=32,min=1,gamma=1,tau=0", "flexprefill:block=32,min=1,gamma=1,tau=1", "flexprefill:block=32,min=190,gamma=0.1",
			"minference:vertical=1000", "minference:vertical=1000,slash=1", "minference:vertical=1,slash=1000",
		} {
			m, err := attention.Parse(spec)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []small{newSmall(4, 2, 32, 0, 200, 1), newSmall(2, 1, 16, 77, 128, 2), newSmall(2, 2, 32, 150, 20, 3)} {
				got, p := c.run(t, dev, m)
				want, _ := c.run(t, dev, attention.Full{})
				worst := 0.0
				for i := range got {
					if diff := math.Abs(float64(got[i] - want[i])); !(diff <= worst) {
						worst = diff
					}
				}
				if !(worst <= 3e-5) {
					t.Errorf("%s on %v (dense: %v): outputs differ by %.3g", spec, c, p.Dense, worst)
				}
			}
		}
	})
}
