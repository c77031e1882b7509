package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// engineFlags are the flags of every command that computes.
type engineFlags struct {
	model       string
	loadFormat  string
	attention   string
	device      string
	threads     int
	precision   string
	kvDType     string
	extrapolate bool
}

func (f *engineFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.model, "model", "m", "", "model folder, or org/name in the Hugging Face cache")
	fl.StringVar(&f.loadFormat, "load-format", "auto", "auto: safetensors; dummy: seeded random weights from config.json alone")
	fl.StringVar(&f.attention, "attention", "full", "attention of the prefill: full")
	fl.StringVar(&f.device, "device", "cpu", "device: cpu")
	fl.IntVarP(&f.threads, "threads", "t", 0, "threads; 0 takes the CPUs this process may use")
	fl.StringVar(&f.precision, "precision", "auto", "arithmetic: f32, bf16 (products in bf16, sums in f32), or auto: bf16 where the CPU has it")
	fl.StringVar(&f.kvDType, "kv-dtype", "bf16", "element of the KV cache: bf16, or f32 (which implies --precision f32)")
	fl.BoolVar(&f.extrapolate, "allow-extrapolation", false, "run beyond the positions the model was trained for")
	must(cmd.MarkFlagRequired("model"))
}

// must is for errors that only a wrong flag name in this program can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// engine is a loaded model on an open device.
type engine struct {
	*model.Model
	dir       string
	dev       *cpu.Device
	ckpt      *loader.Checkpoint
	method    attention.Method
	kv        kernels.DType
	flags     *engineFlags
	loadTime  time.Duration
	weights   int64
	precision string
}

// open checks the flags, then opens device, checkpoint and model, cheapest first.
func (f *engineFlags) open() (*engine, error) {
	start := time.Now()
	e := &engine{flags: f}
	var err error
	if e.method, err = attention.Parse(f.attention); err != nil {
		return nil, err
	}
	if e.kv, err = f.kvType(); err != nil {
		return nil, err
	}
	if e.dir, err = loader.Find(f.model); err != nil {
		return nil, err
	}
	cfg, err := model.ReadConfig(e.dir)
	if err != nil {
		return nil, err
	}
	if e.dev, err = f.openDevice(); err != nil {
		return nil, err
	}
	e.precision = map[kernels.DType]string{kernels.F32: "f32", kernels.BF16: "bf16"}[e.dev.Compute()]
	if e.ckpt, err = f.openWeights(e.dir, cfg); err == nil {
		e.Model, err = model.New(e.dev, cfg, e.ckpt)
	}
	if err != nil {
		e.close()
		return nil, err
	}
	for _, w := range e.Warnings {
		fmt.Fprintln(os.Stderr, "pbs-run: warning:", w)
	}
	for _, n := range e.ckpt.Bytes() {
		e.weights += n
	}
	e.loadTime = time.Since(start)
	return e, nil
}

func (f *engineFlags) kvType() (kernels.DType, error) {
	switch f.kvDType {
	case "bf16":
		return kernels.BF16, nil
	case "f32":
		return kernels.F32, nil
	}
	return 0, fmt.Errorf("--kv-dtype %q: want bf16 or f32", f.kvDType)
}

// openDevice opens the CPU. PBS_CPU overrides the choice of instruction set.
func (f *engineFlags) openDevice() (*cpu.Device, error) {
	if f.device != "cpu" {
		return nil, fmt.Errorf("--device %q: this pbs-run has only cpu", f.device)
	}
	opt := cpu.Options{Threads: f.threads, ISA: os.Getenv("PBS_CPU")}
	switch f.precision {
	case "f32":
		opt.F32 = true
	case "auto":
		opt.F32 = f.kvDType == "f32"
	case "bf16":
	default:
		return nil, fmt.Errorf("--precision %q: want auto, f32 or bf16", f.precision)
	}
	dev, err := cpu.Open(opt)
	if err != nil {
		return nil, err
	}
	if f.precision == "bf16" && dev.Compute() != kernels.BF16 {
		dev.Close()
		return nil, fmt.Errorf("--precision bf16: %s has no bf16 products; use auto or f32", dev.ISA())
	}
	return dev, nil
}

func (f *engineFlags) openWeights(dir string, cfg model.Config) (*loader.Checkpoint, error) {
	switch f.loadFormat {
	case "auto", "safetensors":
		return loader.Open(dir)
	case "dummy":
		return loader.Dummy(cfg.Tensors(kernels.BF16), 0)
	}
	return nil, fmt.Errorf("--load-format %q: want auto, safetensors or dummy", f.loadFormat)
}

// tokenizer loads the model's tokenizer and checks that every id it can produce has an embedding.
func (e *engine) tokenizer() (*tokenizer.Tokenizer, error) {
	tok, err := tokenizer.Load(e.dir)
	if err != nil {
		return nil, err
	}
	if int(tok.MaxID()) >= e.Vocab {
		tok.Close()
		return nil, fmt.Errorf("tokenizer %s: has token id %d, the model embeds %d", filepath.Join(e.dir, "tokenizer.json"), tok.MaxID(), e.Vocab)
	}
	return tok, nil
}

// session makes a session for a prompt of n tokens and maxNew generated ones, or says what does not fit, before any work.
func (e *engine) session(n, maxNew int) (*model.Session, error) {
	free, err := freeMemory()
	if err != nil {
		return nil, err
	}
	dt := e.dev.Compute()
	if err := e.CheckLength(n, maxNew, e.flags.extrapolate, free, e.kv, dt, e.weights); err != nil {
		return nil, err
	}
	return e.NewSession(e.NewPlan(n+maxNew, n, e.kv, dt, e.weights), e.method)
}

func (e *engine) close() {
	if e.ckpt != nil {
		e.ckpt.Close()
	}
	if e.dev != nil {
		e.dev.Close()
	}
}
