package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/kernels"
)

// report is what a command found out.
type report interface {
	print(to io.Writer) error // for people
}

// registerJSON adds the flag that show takes.
func registerJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print one JSON object")
}

// show prints r for people, or as one JSON object.
func show(r report, asJSON bool, to io.Writer) error {
	if asJSON {
		return json.NewEncoder(to).Encode(r)
	}
	return r.print(to)
}

// setup is the part of a report that says what computed it.
type setup struct {
	Precision string `json:"precision"`
	KVDType   string `json:"kv_dtype"`
	ISA       string `json:"isa"`
	Threads   int    `json:"threads"`
}

// setupOf describes a device that works on keys and values of type kv.
func setupOf(dev interface {
	kernels.Device
	ISA() string
	Threads() int
}, kv kernels.DType) setup {
	return setup{dtypeFlag(dev.Compute()), dtypeFlag(kv), dev.ISA(), dev.Threads()}
}

// text describes s for people.
func (s setup) text() string {
	return fmt.Sprintf("%s on %s, %d threads, KV %s", s.Precision, s.ISA, s.Threads, s.KVDType)
}

// dtypeFlag is how --precision and --kv-dtype spell a type.
func dtypeFlag(dt kernels.DType) string {
	return map[kernels.DType]string{kernels.F32: "f32", kernels.BF16: "bf16"}[dt]
}

// atLeast is a flag's number and the smallest that makes sense.
type atLeast struct {
	flag         string
	value, least int
}

// within is a flag's number and the range that makes sense. The most that does is far more than anybody wants, and little enough
// for nothing to overflow.
type within struct {
	flag               string
	value, least, most int
}

// checkWithin finds the first number that is out of its range.
func checkWithin(flags ...within) error {
	for _, f := range flags {
		if f.value < f.least || f.value > f.most {
			return fmt.Errorf("%s %d: want %d to %d", f.flag, f.value, f.least, f.most)
		}
	}
	return nil
}

// checkLeast finds the first number that is too small.
func checkLeast(flags ...atLeast) error {
	for _, f := range flags {
		if f.value < f.least {
			return fmt.Errorf("%s %d: want %d or more", f.flag, f.value, f.least)
		}
	}
	return nil
}
