package cuda

import (
	"testing"

	"github.com/pbs-run/pbs-run/kernels/kernelstest"
)

// TestSuiteOnHost runs the conformance suite on the kernels as compiled for the host.
func TestSuiteOnHost(t *testing.T) {
	d, _ := openHost(t)
	kernelstest.Run(t, d)
}
