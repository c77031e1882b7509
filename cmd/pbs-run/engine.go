package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// engineFlags are the flags of every command that computes.
type engineFlags struct {
	model       string
	loadFormat  string
	attention   string
	perLayer    []string
	minLength   int
	builtin     string // config of a published model, for dummy weights
	cut         int    // layers of a dummy model; 0 for all
	device      string
	threads     int
	precision   string
	kvDType     string
	extrapolate bool
}

// register adds the flags to cmd, whose prefills attend by method unless the user says otherwise.
func (f *engineFlags) register(cmd *cobra.Command, method string) {
	fl := cmd.Flags()
	fl.StringVar(&f.attention, "attention", method, "`method` of the prefill: full, pbs, pbs+, meanpool, xattention, minference, flexprefill or auto, with settings as in pbs:tau=0.95; see pbs-run help attention")
	f.registerShared(cmd)
	must(cmd.MarkFlagRequired("model"))
}

// registerShared adds all flags but --attention, which some commands take more than once.
func (f *engineFlags) registerShared(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.model, "model", "m", "", "model `folder`, or org/name in the Hugging Face cache")
	fl.StringVar(&f.loadFormat, "load-format", "auto", "auto: safetensors; dummy: seeded random weights from config.json alone")
	fl.StringArrayVar(&f.perLayer, "attention-layers", nil, "`layers=method` gives some layers another method, as in 0-1=full; may be repeated")
	fl.IntVar(&f.minLength, "min-length", 0, minLengthHelp)
	f.registerDevice(cmd, "auto")
	fl.StringVar(&f.kvDType, "kv-dtype", "bf16", "element of the KV cache: bf16, or f32 (which implies --precision f32)")
	fl.BoolVar(&f.extrapolate, "allow-extrapolation", false, "run beyond the positions the model was trained for")
}

// registerDevice adds the flags that openDevice reads.
func (f *engineFlags) registerDevice(cmd *cobra.Command, precision string) {
	fl := cmd.Flags()
	fl.StringVar(&f.device, "device", "auto", "cpu, cuda or cuda:i (a GPU), or auto: a GPU where this program can use one")
	fl.IntVarP(&f.threads, "threads", "t", 0, "threads; 0 takes the CPUs this process may use")
	fl.StringVar(&f.precision, "precision", precision, "arithmetic: f32, bf16 (products in bf16, sums in f32), or auto: bf16 where the CPU has it")
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
	dir      string
	dev      device
	clock    *timed // dev, as the model uses it
	ckpt     *loader.Checkpoint
	method   attention.Method
	methods  []attention.Method // by layer
	kv       kernels.DType
	flags    *engineFlags
	loadTime time.Duration
	weights  int64
	auto     int // tokens from which --attention auto is sparse; 0 until somebody asks
}

// open checks the flags, then opens device, checkpoint and model, cheapest first.
func (f *engineFlags) open() (*engine, error) {
	start := time.Now()
	e := &engine{flags: f}
	var err error
	if e.kv, err = f.kvType(); err != nil {
		return nil, err
	}
	if err := checkLeast(atLeast{"--min-length", f.minLength, 0}); err != nil {
		return nil, err
	}
	cfg, err := f.config(e)
	if err != nil {
		return nil, err
	}
	if e.dev, err = f.openDevice(); err != nil {
		return nil, err
	}
	e.clock = newTimed(e.dev)
	if err = e.load(cfg); err != nil {
		e.close()
		return nil, err
	}
	for _, w := range e.Warnings {
		fmt.Fprintln(os.Stderr, "pbs-run: warning:", w)
	}
	e.loadTime = time.Since(start)
	return e, nil
}

func (e *engine) setup() setup { return setupOf(e.dev, e.kv) }

// config finds the model's folder and reads its config, or takes a built-in one.
func (f *engineFlags) config(e *engine) (cfg model.Config, err error) {
	dummy := f.loadFormat == "dummy"
	switch {
	case (f.builtin != "" || f.cut != 0) && !dummy:
		return cfg, errors.New("--config and --layers are for --load-format dummy")
	case f.builtin != "" && f.model != "":
		return cfg, errors.New("--model and --config exclude each other")
	case f.builtin == "" && f.model == "":
		return cfg, errors.New("give --model DIR, or --load-format dummy --config NAME")
	case f.builtin != "":
		if cfg, err = model.BuiltinConfig(f.builtin); err != nil {
			return cfg, fmt.Errorf("--%w", err)
		}
		e.dir = f.builtin
	default:
		if e.dir, err = loader.Find(f.model); err == nil {
			cfg, err = model.ReadConfig(e.dir)
		}
		if err != nil {
			return cfg, err
		}
	}
	if f.cut < 0 || f.cut > cfg.Layers {
		return cfg, fmt.Errorf("--layers %d: want 1 to %d, or 0 for all", f.cut, cfg.Layers)
	}
	if f.cut > 0 {
		cfg.Layers = f.cut
	}
	return cfg, nil
}

// load resolves the methods, then opens checkpoint and model.
func (e *engine) load(cfg model.Config) (err error) {
	f := e.flags
	if e.method, err = e.methodOf(f.attention, cfg); err != nil {
		return err
	}
	if e.methods, err = e.layerMethods(e.method, cfg, 0); err != nil {
		return err
	}
	if e.ckpt, err = f.openWeights(e.dev, e.dir, cfg); err != nil {
		return err
	}
	for _, n := range e.ckpt.Bytes() {
		e.weights += n
	}
	done, err := e.watchUpload()
	if err != nil {
		return err
	}
	defer done()
	e.Model, err = model.New(e.clock, cfg, e.ckpt)
	return err
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

func (f *engineFlags) openWeights(dev kernels.Device, dir string, cfg model.Config) (*loader.Checkpoint, error) {
	switch f.loadFormat {
	case "auto", "safetensors":
		return loader.Open(dir)
	case "dummy":
		if _, ok := dev.(kernels.Drawer); ok {
			return loader.Outline(cfg.Tensors(kernels.BF16), 0)
		}
		need := 2 * cfg.Params()
		if free, err := freeMemory(); err == nil && need > free {
			return nil, fmt.Errorf("--load-format dummy: weights of %s, %s are free; --layers makes fewer", model.GiB(need), model.GiB(free))
		}
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
	needs, err := e.checkLength(n, maxNew, e.methods)
	if err != nil {
		return nil, err
	}
	if n+maxNew > e.MaxPositions {
		fmt.Fprintf(os.Stderr, "pbs-run: warning: --allow-extrapolation: prompt of %d tokens + %d new tokens exceed the model's %d positions\n", n, maxNew, e.MaxPositions)
	}
	return e.NewSession(e.NewPlan(n+maxNew, n, needs))
}

// checkLength says what of a session with these methods does not fit.
func (e *engine) checkLength(n, maxNew int, methods []attention.Method) (model.Needs, error) {
	needs := model.Needs{KV: e.kv, Compute: e.dev.Compute(), Scratch: e.dev.Scratch, Weights: e.weights, Methods: methods}
	free, err := freeOn(e.dev)
	if err != nil {
		return needs, err
	}
	if _, ok := e.dev.(memoryOwner); ok || e.flags.loadFormat == "dummy" {
		free += e.weights // they are there already, where mapped files only may come to be
	}
	if s, ok := e.dev.(interface{ Workspace(keys int) int64 }); ok {
		free = max(0, free-s.Workspace(n+maxNew))
	}
	err = e.CheckLength(n, maxNew, e.flags.extrapolate, free, needs)
	if errors.Is(err, model.ErrTooLong) {
		err = fmt.Errorf("%w; shorten the prompt, or accept worse output with --allow-extrapolation", err)
	}
	return needs, err
}

func (e *engine) close() {
	if e.ckpt != nil {
		e.ckpt.Close()
	}
	if e.dev != nil {
		e.dev.Close()
	}
}
