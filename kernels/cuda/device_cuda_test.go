//go:build cuda

package cuda

import (
	"errors"
	"testing"

	"github.com/pbs-run/pbs-run/kernels/kernelstest"
)

// TestSuite runs the conformance suite on the GPU, with cuBLASLt where it is installed; TestSuiteOwn has our own kernels compute all
// matrix products.
func TestSuite(t *testing.T) {
	d := openGPU(t)
	t.Logf("%s, matrix products by %q", d.ISA(), d.MatmulLibrary())
	kernelstest.Run(t, d)
}

func TestSuiteOwn(t *testing.T) {
	d := openGPU(t)
	d.NoLibGEMM = true
	kernelstest.Run(t, d)
}

func openGPU(t *testing.T) *Device {
	t.Helper()
	d, err := Open(0)
	if errors.Is(err, ErrNoDevice) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
