package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/model"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// benchFlags are the flags of bench prefill beside the engine's.
type benchFlags struct {
	engineFlags
	specs     []string
	density   float64
	prompt    string
	lengths   []string
	warmup    int
	repeat    int
	decode    int
	lastLayer bool
	calibrate bool
	json      bool
}

func benchPrefillCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "prefill --model DIR --lengths 8K,16K,32K [--attention full --attention pbs ...]",
		Short: "Time to first token at several prompt lengths, of one attention method or several side by side",
		Long: `Time prefills of random tokens, or of a text's tokens (--prompt-file, repeated where it is too short), and some decode
steps after each, and set them beside what the machine can do: the FMA peak, and the read bandwidth right after the steps.
Where several methods are given they take turns, dense attention is one of them and comes first, and the table shows their
speed-up over it, dense whatever --attention-layers says; "bound" is the speed-up if attention took its density's share of
dense attention's time and choosing blocks none. Attention to random tokens, or under random weights, is flat, and little
of it can be left out: --force-density keeps a share of the blocks instead, all ranking and selection still done.

  pbs-run bench prefill -m DIR --lengths 8K,32K --attention full --attention pbs --attention meanpool --prompt-file book.txt
  pbs-run bench prefill --load-format dummy --config llama-3.2-1b --layers 4 --lengths 32K --attention full --attention pbs --force-density 0.3
  pbs-run bench prefill -m DIR --prompt-file book.txt --calibrate      # what --attention auto goes by, on this machine`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.calibrate && !cmd.Flags().Changed("lengths") {
				f.lengths = []string{"1K", "2K", "4K", "8K", "16K"}
			}
			return runBenchPrefill(cmd.Context(), &f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.registerShared(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&f.specs, "attention", nil, "`method` of the prefill, as for generate; may be repeated (default full)")
	fl.Float64Var(&f.density, "force-density", 0, "keep this `share` of the causal blocks, 0 to 1, in the place of the method's own rule")
	fl.StringVar(&f.builtin, "config", "", "`config` of a published model for --load-format dummy: llama-3.1-8b, llama-3.2-1b or qwen2.5-7b-1m")
	fl.IntVar(&f.cut, "layers", 0, "layers of a --load-format dummy model; 0 for all")
	fl.StringVar(&f.prompt, "prompt-file", "", "`file` with the text whose tokens are the prompts (default: random tokens)")
	fl.StringSliceVar(&f.lengths, "lengths", []string{"2048", "8192"}, "prompt lengths in `tokens`, K for 1024, separated by commas")
	fl.IntVar(&f.warmup, "warmup", 1, "untimed prefills of up to 1024 tokens per method before the first timed one")
	fl.IntVar(&f.repeat, "repeat", 3, "timed prefills per length and method")
	fl.IntVar(&f.decode, "decode", 16, "decode steps timed after each prefill; 0 for none")
	fl.BoolVar(&f.lastLayer, "whole-last-layer", false, "compute the last layer for every row, as engines without that saving do")
	fl.BoolVar(&f.calibrate, "calibrate", false, "compare full and pbs and store the break-even length for --attention auto in the user's cache folder")
	registerJSON(cmd, &f.json)
	return cmd
}

// contender is one method of a comparison.
type contender struct {
	spec    string // as given
	method  attention.Method
	methods []attention.Method // by layer
}

// sparse reports whether a layer's method leaves anything out.
func (c contender) sparse() bool {
	return slices.ContainsFunc(c.methods, func(m attention.Method) bool { return m.String() != "full" })
}

// prefillBench is a comparison in progress.
type prefillBench struct {
	*benchFlags
	e          *engine
	s          *model.Session
	contenders []contender
	tokens     []int32 // of the text; nil for random ones
	rng        *rand.Rand
	stderr     io.Writer
}

func runBenchPrefill(ctx context.Context, f *benchFlags, stdout, stderr io.Writer) error {
	lengths, err := parseLengths(f.lengths)
	if err != nil {
		return err
	}
	if err := checkLeast(atLeast{"--repeat", f.repeat, 1}, atLeast{"--warmup", f.warmup, 0}, atLeast{"--decode", f.decode, 0}); err != nil {
		return err
	}
	if !(f.density >= 0 && f.density <= 1) {
		return fmt.Errorf("--force-density %g: want a share from 0 to 1", f.density)
	}
	if f.calibrate {
		if len(f.specs) > 0 || len(f.perLayer) > 0 || f.minLength > 0 {
			return errors.New("--calibrate compares full and " + defaultMethod + ", everywhere; it excludes --attention, --attention-layers and --min-length")
		}
		if f.density > 0 {
			return errors.New("--calibrate measures what a prompt's own density gains; it excludes --force-density")
		}
		f.specs = []string{"full", defaultMethod}
		if err := checkCalibrations(); err != nil {
			return err
		}
	}
	slices.Sort(lengths)
	f.attention = "full" // each contender comes later
	e, err := f.open()
	if err != nil {
		return cause(ctx, err)
	}
	defer e.close()
	defer context.AfterFunc(ctx, e.dev.Interrupt)() // the peaks are measured outside a session
	b := &prefillBench{benchFlags: f, e: e, rng: rand.New(rand.NewPCG(1, 2)), stderr: stderr}
	if err := b.prepare(slices.Max(lengths)); err != nil {
		return cause(ctx, err)
	}
	r, err := b.run(ctx, lengths)
	if err != nil {
		return cause(ctx, err)
	}
	if f.calibrate {
		err = b.store(&r)
	}
	return errors.Join(show(r, f.json, stdout), err)
}

// prepare resolves the methods, reads the prompt and makes the session that all share.
func (b *prefillBench) prepare(longest int) error {
	specs := b.specs
	if len(specs) == 0 {
		specs = []string{"full"}
	}
	if i := slices.Index(specs, "full"); len(specs) > 1 && i != 0 {
		if i > 0 {
			specs = slices.Delete(slices.Clone(specs), i, i+1)
		}
		specs = append([]string{"full"}, specs...)
	}
	for i, spec := range specs {
		if slices.Contains(specs[:i], spec) {
			return fmt.Errorf("--attention %s is given twice", spec)
		}
		c, err := b.contender(spec, len(specs) == 1)
		if err != nil {
			return err
		}
		b.contenders = append(b.contenders, c)
	}
	if b.density > 0 && !slices.ContainsFunc(b.contenders, contender.sparse) {
		return errors.New("--force-density: every layer is full; give --attention pbs, pbs+ or meanpool")
	}
	if b.prompt != "" {
		if err := b.readPrompt(); err != nil {
			return err
		}
	}
	for _, c := range b.contenders {
		if _, err := b.e.checkLength(longest, b.decode, c.methods); err != nil {
			return err
		}
	}
	b.e.methods = b.contenders[0].methods
	var err error
	b.s, err = b.e.session(longest, b.decode)
	return err
}

// contender resolves one --attention. Dense attention that others are measured by stays dense in every layer.
func (b *prefillBench) contender(spec string, alone bool) (c contender, err error) {
	c.spec = spec
	cfg := b.e.Config
	forced, err := force(spec, b.density)
	if err != nil {
		return c, fmt.Errorf("--force-density: %w", err)
	}
	if c.method, err = b.e.methodOf(forced, cfg); err != nil {
		return c, err
	}
	c.methods = slices.Repeat([]attention.Method{c.method}, cfg.Layers)
	if spec != "full" || alone {
		if c.methods, err = b.e.layerMethods(c.method, cfg, b.density); err != nil {
			return c, err
		}
	}
	return c, nil
}

// readPrompt tokenizes --prompt-file.
func (b *prefillBench) readPrompt() error {
	text, err := readInput(b.prompt)
	if err != nil {
		return err
	}
	tok, err := b.e.tokenizer()
	if err != nil {
		return fmt.Errorf("--prompt-file needs the model's tokenizer: %w", err)
	}
	defer tok.Close()
	if b.tokens, err = tok.Encode(string(text), tokenizer.EncodeOptions{}); err == nil && len(b.tokens) == 0 {
		err = fmt.Errorf("--prompt-file %s: no text in it", b.prompt)
	}
	return err
}

// take returns a prompt of n tokens.
func (b *prefillBench) take(n int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		if b.tokens != nil {
			ids[i] = b.tokens[i%len(b.tokens)]
		} else {
			ids[i] = b.rng.Int32N(int32(b.e.Vocab))
		}
	}
	return ids
}

// timing is one run.
type timing struct {
	prefill   float64
	step      float64 // the median decode step, 0 for none
	bandwidth float64 // bytes per second read right after the steps
	phases    phases  // of the prefill
	clocks    clocks  // right after it
}

func (b *prefillBench) run(ctx context.Context, lengths []int) (benchReport, error) {
	r := b.report()
	for range b.warmup {
		for _, c := range b.contenders {
			if _, err := b.once(ctx, c, b.take(min(1024, lengths[0])), ""); err != nil {
				return r, err
			}
		}
	}
	for _, n := range lengths {
		runs := make([][]timing, len(b.contenders))
		dens := make([]densities, len(b.contenders))
		for i := range b.repeat {
			ids := b.take(n)
			for k, c := range b.contenders { // in turns, so that a slow minute of the machine hits all of them
				label := fmt.Sprintf("%d tokens, %s, run %d of %d", n, c.spec, i+1, b.repeat)
				t, err := b.once(ctx, c, ids, label)
				if err != nil {
					return r, err
				}
				runs[k] = append(runs[k], t)
				dens[k] = densitiesOf(b.s.Density())
			}
		}
		for k, c := range b.contenders {
			r.add(b.row(n, c, runs[k], dens[k]))
		}
	}
	r.compare()
	return r, nil
}

// bandwidthBytes is what the read bandwidth is measured over: far more than any cache holds.
const bandwidthBytes = 1 << 30

// once times one prefill from an empty cache, the decode steps after it, and the read bandwidth after those: what a shared
// machine's memory gives changes from minute to minute. It tells stderr under label.
func (b *prefillBench) once(ctx context.Context, c contender, ids []int32, label string) (t timing, err error) {
	if err := b.s.SetMethods(c.methods); err != nil {
		return t, err
	}
	b.s.Truncate(0)
	b.s.WholeLastLayer = b.lastLayer
	bar := watch(b.s, b.stderr, len(ids), b.e.Layers)
	defer bar.close()
	greedy := model.Options{Sampling: model.Greedy(), MaxNew: 1 + b.decode, IgnoreEOS: true}
	steps := make([]float64, 0, b.decode)
	b.e.clock.take()
	start := time.Now()
	for _, err := range b.s.Generate(ctx, ids, greedy) {
		if err != nil {
			return t, err
		}
		now := time.Now()
		if t.prefill == 0 {
			t.prefill, t.phases, t.clocks = now.Sub(start).Seconds(), b.e.clock.take(), clocksOf(b.e.dev)
			bar.close()
			now = time.Now()
		} else {
			steps = append(steps, now.Sub(start).Seconds())
		}
		start = now
	}
	if len(steps) > 0 {
		t.step = median(steps)
		if t.bandwidth, err = b.e.dev.ReadBandwidth(bandwidthBytes); err != nil {
			return t, cause(ctx, err)
		}
		t.bandwidth *= 1e9
	}
	if label != "" {
		fmt.Fprintf(b.stderr, "%s: %.3f s\n", label, t.prefill)
	}
	return t, nil
}
