//go:build cuda

package main

import (
	"os"

	"github.com/pbs-run/pbs-run/kernels/cuda"
)

// openCUDA opens a GPU. PBS_CUDA_GEMM=own has our own kernels compute all matrix products, PBS_CUDA_ATTENTION=tma those of sm_90a the
// attention of prefill, to compare.
func openCUDA(index int) (device, error) {
	dev, err := cuda.Open(index)
	if err != nil {
		return nil, err
	}
	dev.TMA = os.Getenv("PBS_CUDA_ATTENTION") == "tma"
	dev.NoLibGEMM = os.Getenv("PBS_CUDA_GEMM") == "own"
	return dev, nil
}
