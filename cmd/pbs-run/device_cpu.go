//go:build !cuda

package main

import "errors"

var errNoCUDA = errors.New("this pbs-run is built for the CPU alone; make cuda builds bin/pbs-run-cuda, which runs on NVIDIA GPUs too")

func openCUDA(index int) (device, error) { return nil, errNoCUDA }

// isAbsent reports whether a failure of openCUDA is that there is nothing to open.
func isAbsent(err error) bool { return errors.Is(err, errNoCUDA) }
