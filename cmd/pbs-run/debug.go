package main

import (
	"fmt"
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

// checkFinite is a model.Session AfterLayer that finds the first layer and row with a NaN or an infinity.
func checkFinite(layer int, resid kernels.Tensor) error {
	for i, v := range resid.Float32() {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("layer %d, row %d: the residual stream holds %v", layer, i/resid.Cols(), v)
		}
	}
	return nil
}
