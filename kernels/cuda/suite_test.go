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
	kernelstest.Run(t, d)
}
