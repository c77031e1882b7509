//go:build !cuda

package main

func openCUDA(index int) (device, error) { return nil, errNoCUDA }
