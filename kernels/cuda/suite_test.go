package cuda

import (
	"os"
	"testing"

	"github.com/pbs-run/pbs-run/kernels/kernelstest"
)

// TestSuiteOnHost runs the conformance suite on the kernels as compiled for the host.
func TestSuiteOnHost(t *testing.T) {
	d, _ := openHost(t)
	d.TMA = os.Getenv("PBS_CUDA_ATTENTION") == "tma"
	kernelstest.Run(t, cutter{d})
}

// cutter is a Device as the suite takes it: a kernelstest.Cutter.
type cutter struct{ *Device }

func (cutter) CutsSums() bool { return true }
