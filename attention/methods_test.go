package attention_test

import (
	"math"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// A spec comes back as the method's String, with all settings.
func TestParse(t *testing.T) {
	for spec, want := range map[string]string{
		"full":                            "full",
		"pbs":                             "pbs:block=128,segment=256,tau=0.9,permute=on,first=on",
		"pbs+":                            "pbs+:block=128,segment=256,stride=8,tau=0.9,permute=on,first=on",
		"pbs+:stride=16,permute=off":      "pbs+:block=128,segment=256,stride=16,tau=0.9,permute=off,first=on",
		"meanpool:tau=0.5":                "meanpool:block=128,tau=0.5",
		"flexprefill:gamma=1":             "flexprefill:block=128,gamma=1,tau=0.1,min=1024",
		"minference":                      "minference:vertical=1000,slash=6096",
		"minference:slash=1,scale=128":    "minference:vertical=1000,slash=1,scale=128",
		"xattention":                      "xattention:block=128,stride=8,threshold=0.9",
		"xattention:block=64,chunk=16384": "xattention:block=64,stride=8,threshold=0.9,chunk=16384",
	} {
		for _, spec := range []string{spec, want} {
			if m, err := attention.Parse(spec); err != nil || m.String() != want {
				t.Errorf("%q: %v, %v; want %q", spec, m, err, want)
			}
		}
	}
	for _, spec := range []string{"", "PBS", "pbs:tau=2", "pbs:tua=1", "full:tau=1", "pbs+:stride=7", "pbs+:stride=0", "xattention:block=100", "xattention:tau=0.9", "xattention:stride=256", "minference:block=64", "minference:vertical=0", "flexprefill:gamma=1.5", "flexprefill:min=0"} {
		if m, err := attention.Parse(spec); err == nil {
			t.Errorf("%q gives %v, want an error", spec, m)
		}
	}
}

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
