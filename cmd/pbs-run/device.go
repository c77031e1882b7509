package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/model"
)

// device is a kernels.Device with what reports say of it.
type device interface {
	kernels.Device
	ISA() string      // instruction set, or the GPU's name
	Threads() int     // or multiprocessors
	FMAPeak() float64 // GFLOP/s of products
	ReadBandwidth(bytes int) (float64, error)
}

// A GPU says how much memory it has left, which is not the host's.
type memoryOwner interface{ Free() int64 }

// freeOn is the memory that tensors on dev may still take.
func freeOn(dev kernels.Device) (int64, error) {
	if t, ok := dev.(*timed); ok {
		dev = t.dev
	}
	if m, ok := dev.(memoryOwner); ok {
		return m.Free(), nil
	}
	return freeMemory()
}

var errNoCUDA = errors.New("this pbs-run is built for the CPU alone; make cuda builds bin/pbs-run-cuda, which runs on NVIDIA GPUs too")

// openDevice opens what --device names: cpu, cuda or cuda:i, or auto, the first GPU where this program can use one and precision
// allows, else the CPU.
func (f *engineFlags) openDevice() (device, error) {
	name, index, err := parseDevice(f.device)
	if err != nil {
		return nil, err
	}
	switch f.precision {
	case "auto", "f32", "bf16":
	default:
		return nil, fmt.Errorf("--precision %q: want auto, f32 or bf16", f.precision)
	}
	f32 := f.precision == "f32" || f.precision == "auto" && f.kvDType == "f32"
	switch {
	case name == "cuda" && f32:
		return nil, fmt.Errorf("--device %s computes in bf16; give --precision bf16 and --kv-dtype bf16, or --device cpu", f.device)
	case name == "cuda":
		dev, err := openCUDA(index)
		if err != nil {
			return nil, fmt.Errorf("--device %s: %w", f.device, err)
		}
		return dev, nil
	case name == "auto" && !f32:
		if dev, err := openCUDA(0); err == nil {
			return dev, nil
		} else if !errors.Is(err, errNoCUDA) {
			fmt.Fprintf(os.Stderr, "pbs-run: %v: computing on the CPU\n", err)
		}
	}
	return f.openCPU(f32)
}

// parseDevice splits the value of --device.
func parseDevice(s string) (name string, index int, err error) {
	name, suffix, ok := strings.Cut(s, ":")
	if ok {
		if index, err = strconv.Atoi(suffix); err != nil || index < 0 {
			return "", 0, fmt.Errorf("--device %q: want cuda:N, N from 0", s)
		}
	}
	if name != "auto" && name != "cpu" && name != "cuda" || ok && name != "cuda" {
		return "", 0, fmt.Errorf("--device %q: want auto, cpu, cuda or cuda:i", s)
	}
	return name, index, nil
}

// openCPU opens the CPU. PBS_CPU overrides the choice of instruction set.
func (f *engineFlags) openCPU(f32 bool) (device, error) {
	dev, err := cpu.Open(cpu.Options{Threads: f.threads, ISA: os.Getenv("PBS_CPU"), F32: f32})
	if err != nil {
		return nil, err
	}
	if f.precision == "bf16" && dev.Compute() != kernels.BF16 {
		dev.Close()
		return nil, fmt.Errorf("--precision bf16: %s has no bf16 products; use auto or f32", dev.ISA())
	}
	return dev, nil
}

// watchUpload checks that the weights fit a device with memory of its own, and shows on a terminal how their copying goes.
func (e *engine) watchUpload() (done func(), err error) {
	owner, ok := e.dev.(interface {
		memoryOwner
		WatchPlace(f func(bytes int64))
	})
	if !ok {
		return func() {}, nil
	}
	if free := owner.Free(); e.weights > free {
		return nil, fmt.Errorf("weights of %s do not fit %s, which has %s free", model.GiB(e.weights), e.dev.ISA(), model.GiB(free))
	}
	b := newBar(os.Stderr, 0, 0)
	placed := int64(0)
	owner.WatchPlace(func(n int64) {
		placed += n
		b.copied(placed, e.weights)
	})
	return func() {
		owner.WatchPlace(nil)
		b.close()
	}, nil
}
