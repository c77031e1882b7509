package cpu

import (
	"testing"

	"github.com/pbs-run/pbs-run/kernels/kernelstest"
)

// devices calls f with a Device for every instruction set of this host in both precisions.
func devices(t *testing.T, threads int, f func(t *testing.T, d *Device)) {
	for _, set := range setNames {
		for _, f32 := range []bool{true, false} {
			d, err := Open(Options{Threads: threads, ISA: set, F32: f32})
			if err != nil {
				t.Logf("%s: not run: %v", set, err)
				continue
			}
			name := d.ISA() + "-" + d.Compute().String()
			if !f32 && d.Compute().String() == "F32" {
				d.Close()
				continue // the same as with F32 set
			}
			t.Run(name, func(t *testing.T) { f(t, d) })
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSuite(t *testing.T) {
	devices(t, 2, func(t *testing.T, d *Device) { kernelstest.Run(t, d) })
}
