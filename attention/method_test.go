package attention_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

func TestParseSpecs(t *testing.T) {
	pbs := attention.PBS{Block: 128, Segment: 256, Tau: 0.9, Permute: true, First: true}
	with := func(set func(m *attention.PBS)) attention.PBS {
		m := pbs
		set(&m)
		return m
	}
	for spec, want := range map[string]attention.Method{
		"full":                        attention.Full{},
		"pbs":                         pbs,
		"pbs:tau=0":                   with(func(m *attention.PBS) { m.Tau = 0 }),
		"pbs:tau=1":                   with(func(m *attention.PBS) { m.Tau = 1 }),
		"pbs:tau=1e-3,density=0.25":   with(func(m *attention.PBS) { m.Tau, m.Density = 1e-3, 0.25 }),
		"pbs:first=off,permute=off":   with(func(m *attention.PBS) { m.First, m.Permute = false, false }),
		"pbs:block=16,segment=48":     with(func(m *attention.PBS) { m.Block, m.Segment = 16, 48 }),
		"pbs:segment=1024":            with(func(m *attention.PBS) { m.Segment = 1024 }),
		"pbs:block=64":                with(func(m *attention.PBS) { m.Block = 64 }),
		"pbs:block=512":               with(func(m *attention.PBS) { m.Block, m.Segment = 512, 1024 }),
		"pbs:block=65536":             with(func(m *attention.PBS) { m.Block, m.Segment = 65536, 65536 }),
		"pbs:last=2":                  with(func(m *attention.PBS) { m.Last = 2 }),
		"pbs:last=0":                  pbs,
		"pbs+:last=3":                 attention.PBSPlus{PBS: with(func(m *attention.PBS) { m.Last = 3 }), Stride: 8},
		"meanpool:last=1":             attention.MeanPool{Block: 128, Tau: 0.9, Last: 1},
		"meanpool":                    attention.MeanPool{Block: 128, Tau: 0.9},
		"meanpool:tau=0.7,block=64":   attention.MeanPool{Block: 64, Tau: 0.7},
		"meanpool:density=1,block=16": attention.MeanPool{Block: 16, Tau: 0.9, Density: 1},
	} {
		m, err := attention.Parse(spec)
		if err != nil || m != want {
			t.Errorf("%q is %+v, %v, want %+v", spec, m, err, want)
			continue
		}
		if again, err := attention.Parse(m.String()); err != nil || again != want {
			t.Errorf("%q writes itself as %q, which is %+v, %v", spec, m, again, err)
		}
		// Whatever Parse accepts, a plan can be made for.
		if s := m.Layout().Shape(kernels.PlanShape{}); s.Block > 0 && (s.Segment%s.Block != 0 || s.Segment > kernels.MaxSegment) {
			t.Errorf("%q has blocks of %d in segments of %d", spec, s.Block, s.Segment)
		}
	}
}

// A spec comes back as the method's String, with all settings.
func TestString(t *testing.T) {
	for spec, want := range map[string]string{
		"full":                         "full",
		"pbs":                          "pbs:block=128,segment=256,tau=0.9,permute=on,first=on",
		"pbs+":                         "pbs+:block=128,segment=256,stride=8,tau=0.9,permute=on,first=on",
		"pbs:density=0.5,last=2":       "pbs:block=128,segment=256,tau=0.9,permute=on,first=on,last=2,density=0.5",
		"pbs+:last=1":                  "pbs+:block=128,segment=256,stride=8,tau=0.9,permute=on,first=on,last=1",
		"meanpool:last=2":              "meanpool:block=128,tau=0.9,last=2",
		"pbs+:stride=16,permute=off":   "pbs+:block=128,segment=256,stride=16,tau=0.9,permute=off,first=on",
		"meanpool:tau=0.5":             "meanpool:block=128,tau=0.5",
		"flexprefill:gamma=1":          "flexprefill:block=128,gamma=1,tau=0.1,min=1024",
		"minference":                   "minference:vertical=1000,slash=6096",
		"minference:slash=1,scale=128": "minference:vertical=1000,slash=1,scale=128",
		"xattention":                   "xattention:block=128,stride=8,threshold=0.9",
		"xattention:block=64":          "xattention:block=64,stride=8,threshold=0.9",
		"flexprefill:tau=5":            "flexprefill:block=128,gamma=0.95,tau=5,min=1024",
	} {
		for _, spec := range []string{spec, want} {
			if m, err := attention.Parse(spec); err != nil || m.String() != want {
				t.Errorf("%q: %v, %v; want %q", spec, m, err, want)
			}
		}
	}
}

// Errors name the spec and what is wrong in it.
func TestParseErrors(t *testing.T) {
	for spec, says := range map[string]string{
		"":                             "unknown method",
		"PBS":                          "unknown method",
		"xattn":                        "unknown method",
		"full:block=64":                `full has no setting "block"`,
		"pbs:":                         "key=value",
		"pbs:tau":                      "key=value",
		"pbs:tau=0.9,":                 "key=value",
		"pbs:tau=0.9,tau=0.8":          `"tau=0.8" is not a setting of its own`,
		"pbs:steps=3":                  `pbs has no setting "steps"`,
		"pbs:tau=0.5,Block=64":         `pbs has no setting "Block"`,
		"pbs: tau=0.5":                 `pbs has no setting " tau"`,
		"pbs:block=0":                  "block=0: want a whole number from 16",
		"pbs:block=-128":               "block=-128: want a whole number",
		"pbs:block=128.0":              "block=128.0: want a whole number",
		"pbs:block=":                   "block=: want a whole number",
		"pbs:segment=":                 "segment=: want a whole number",
		"pbs:block=512,segment=":       "segment=: want a whole number",
		"pbs:block=16,segment=131072":  "segment=131072: want a whole number",
		"pbs:block=100":                "segment=256: want a multiple of block=100; it is the default, give a segment",
		"pbs:segment=200":              "segment=200: want a multiple of block=128",
		"pbs:block=256,segment=128":    "segment=128: want a multiple of block=256",
		"pbs:tau=NaN":                  "tau=NaN: want a number from 0 to 1",
		"pbs:tau=-0.1":                 "tau=-0.1: want a number from 0 to 1",
		"pbs:tau=1.0001":               "tau=1.0001: want a number from 0 to 1",
		"pbs:tau=Inf":                  "tau=Inf: want a number from 0 to 1",
		"pbs:tau=":                     "tau=: want a number from 0 to 1",
		"pbs:density=2":                "density=2: want a number from 0 to 1",
		"pbs:permute=yes":              "permute=yes: want on or off",
		"pbs:first=":                   "first=: want on or off",
		"pbs:last=-1":                  "last=-1: want a whole number from 0",
		"pbs:last=2147483648":          "last=2147483648: want a whole number from 0",
		"xattention:last=1":            `xattention has no setting "last"`,
		"meanpool:segment=128":         `meanpool has no setting "segment"`,
		"meanpool:block=8":             "block=8: want a whole number from 16",
		"meanpool:tau=0.9,permute=off": `meanpool has no setting "permute"`,
		"pbs:tau=2":                    "tau=2: want a number from 0 to 1",
		"pbs:tua=1":                    `pbs has no setting "tua"`,
		"full:tau=1":                   `full has no setting "tau"`,
		"pbs+:stride=7":                "stride=7: want a divisor of block=128",
		"pbs+:stride=0":                "stride=0: want a whole number from 1 to 128",
		"xattention:block=100":         "stride=8: want a divisor of block=100",
		"xattention:tau=0.9":           `xattention has no setting "tau"`,
		"xattention:stride=256":        "stride=256: want a whole number from 1 to 128",
		"minference:block=64":          `minference has no setting "block"`,
		"minference:vertical=0":        "vertical=0: want a whole number from 1",
		"flexprefill:gamma=1.5":        "gamma=1.5: want a number from 0 to 1",
		"flexprefill:min=0":            "min=0: want a whole number from 1",
	} {
		m, err := attention.Parse(spec)
		if err == nil {
			t.Errorf("%q is %v, want an error that says %q", spec, m, says)
		} else if !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), fmt.Sprintf("%q", spec)) {
			t.Errorf("%q: %v, want an error that says %q", spec, err, says)
		}
	}
}
