package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
)

// benchAttentionFlags are the flags of bench attention.
type benchAttentionFlags struct {
	engineFlags // of these: device, threads, precision, kvDType
	input       string
	specs       []string
	densities   []float64
	lengths     []string
	shape       layer
	repeat      int
	json        bool
}

func benchAttentionCommand() *cobra.Command {
	var f benchAttentionFlags
	cmd := &cobra.Command{
		Use:   "attention --lengths 8K,16K [--attention pbs ...] [--density 0.1,0.3,1]",
		Short: "Time of one layer's attention, phase by phase",
		Long: `Time one layer's attention over made-up queries and keys, some of which are alike so that there is something to choose, or over
those of a file (pbs-run capture writes such). Each method runs by its own rule or, with --density, at each of these shares of the
causal blocks. Work counts a multiply-add as two operations and the causal attention that was kept once; "of peak" is its rate in
attend alone over the FMA peak measured in the same run; "of dense" is the whole time, choosing included, over that of dense
attention.

  pbs-run bench attention --lengths 16K --heads 32 --kv-heads 8 --head-dim 128 --attention pbs --density 0.1,0.2,0.3,0.5,1
  pbs-run bench attention --input qkv/layer3.safetensors --attention pbs --attention meanpool`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, made := range []string{"lengths", "heads", "kv-heads", "head-dim", "kv-dtype"} {
				if f.input != "" && cmd.Flags().Changed(made) {
					return fmt.Errorf("--input and --%s exclude each other", made)
				}
			}
			return runBenchAttention(cmd.Context(), &f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.input, "input", "", "safetensors `file` with q, k and v, as for attend")
	fl.StringArrayVar(&f.specs, "attention", []string{"pbs"}, "`method`, as for attend; may be repeated")
	fl.Float64SliceVar(&f.densities, "density", nil, "`shares` of the causal blocks to keep, separated by commas (default: each method's own rule)")
	fl.StringSliceVar(&f.lengths, "lengths", []string{"8K"}, "`tokens`, K for 1024, separated by commas")
	fl.IntVar(&f.shape.heads, "heads", 32, "query heads")
	fl.IntVar(&f.shape.kvHeads, "kv-heads", 8, "key heads")
	fl.IntVar(&f.shape.headDim, "head-dim", 64, "elements of a head")
	fl.IntVar(&f.repeat, "repeat", 3, "runs; the fastest one's times are shown")
	fl.StringVar(&f.kvDType, "kv-dtype", "bf16", "element of made-up keys and values: bf16, or f32 (which implies --precision f32)")
	fl.Lookup("density").DefValue = "" // the usage has it
	registerJSON(cmd, &f.json)
	f.registerDevice(cmd, "auto")
	return cmd
}

// attentionBench is one row: a method over one layer.
type attentionBench struct {
	Tokens    int     `json:"tokens"`
	Attention string  `json:"attention"`
	Density   float64 `json:"density"`
	Forced    bool    `json:"forced"`
	Seconds   phases  `json:"seconds"`
	Total     float64 `json:"total_seconds"`
	GFLOPS    float64 `json:"gflops"` // of attend
	PeakShare float64 `json:"peak_share"`
	OfDense   float64 `json:"of_dense"`        // whole time over dense attention's
	Attend    float64 `json:"attend_of_dense"` // attend alone
	Overhead  float64 `json:"choose_of_dense"` // rank, sort, score and select
	Spread    float64 `json:"spread"`          // standard deviation of the runs' whole times over their mean
	clocks
	spec string
}

// attentionReport is what bench attention prints.
type attentionReport struct {
	Input   string `json:"input"`
	Heads   int    `json:"heads"`
	KVHeads int    `json:"kv_heads"`
	HeadDim int    `json:"head_dim"`
	setup
	Peak float64          `json:"fma_peak_gflops"`
	Rows []attentionBench `json:"rows"`
}

// maxHeads bounds --heads and --kv-heads.
const maxHeads = 1 << 12

func runBenchAttention(ctx context.Context, f *benchAttentionFlags, stdout, stderr io.Writer) error {
	lengths, err := parseLengths(f.lengths)
	if err != nil {
		return err
	}
	if err := checkLeast(atLeast{"--repeat", f.repeat, 1}); err != nil {
		return err
	}
	if err := checkWithin(within{"--heads", f.shape.heads, 1, maxHeads}, within{"--kv-heads", f.shape.kvHeads, 1, maxHeads}); err != nil {
		return err
	}
	runs, err := f.runs()
	if err != nil {
		return err
	}
	if f.input != "" {
		lengths = []int{0}
	}
	r := attentionReport{Input: f.input}
	for _, n := range lengths {
		if err := f.length(ctx, n, runs, &r, stderr); err != nil {
			return cause(ctx, err)
		}
	}
	return show(r, f.json, stdout)
}

// attentionRun is a method, as given, and whether its density is forced.
type attentionRun struct {
	spec   string
	method attention.Method
	forced bool
}

// runs are the methods at all densities.
func (f *benchAttentionFlags) runs() (list []attentionRun, err error) {
	densities := f.densities
	if len(densities) == 0 {
		densities = []float64{0}
	}
	for _, spec := range f.specs {
		for i, d := range densities {
			if len(f.densities) > 0 && !(d > 0 && d <= 1) {
				return nil, fmt.Errorf("--density %g: want shares above 0, at most 1", d)
			}
			if spec == "full" {
				if i == 0 {
					list = append(list, attentionRun{spec, attention.Full{}, false})
				}
				continue
			}
			if _, err := layerMethod(spec); err != nil {
				return nil, err
			}
			forced, err := force(spec, d)
			if err != nil {
				return nil, fmt.Errorf("--density: %w", err)
			}
			m, err := attention.Parse(forced)
			if err != nil {
				return nil, err
			}
			list = append(list, attentionRun{spec, m, d > 0})
		}
	}
	return list, nil
}

// length measures every method over one layer, on a device of its own, whose memory goes with it.
func (f *benchAttentionFlags) length(ctx context.Context, n int, runs []attentionRun, r *attentionReport, stderr io.Writer) error {
	kv, err := f.kvType()
	if err != nil {
		return err
	}
	dev, err := f.openDevice()
	if err != nil {
		return err
	}
	defer dev.Close()
	defer context.AfterFunc(ctx, dev.Interrupt)()
	use := layerUse{buffers: 1}
	for _, run := range runs {
		use.methods = append(use.methods, run.method)
	}
	var l *layer
	if f.input != "" {
		l, err = readLayer(dev, f.input, use)
	} else {
		l, err = makeLayer(dev, f.shape, n, kv, use)
	}
	if err != nil {
		return err
	}
	if r.Peak == 0 {
		r.Heads, r.KVHeads, r.HeadDim, r.setup, r.Peak = l.heads, l.kvHeads, l.headDim, setupOf(dev, l.kv.K.DType), dev.FMAPeak()
	}
	out := dev.Alloc(dev.Compute(), l.rows, l.heads*l.headDim)
	if err := dev.Err(); err != nil {
		return err
	}
	clock := newTimed(dev)
	l.attend(clock, attention.Full{}, nil, out) // the first run pays for memory
	dense, apart := l.fastest(clock, attention.Full{}, nil, out, f.repeat)
	full := l.row("full", attention.Full{}, 1, dense, dense, r.Peak)
	full.Spread, full.clocks = apart, clocksOf(dev)
	r.Rows = append(r.Rows, full)
	for _, run := range runs {
		if run.spec == "full" {
			continue // it is the first row
		}
		p := l.plan(dev, run.method)
		l.attend(clock, run.method, p, out)
		times, apart := l.fastest(clock, run.method, p, out, f.repeat)
		mhz := clocksOf(dev) // while they are what they were
		b, err := blocksOf(dev, l, p, 1)
		if err != nil {
			return err
		}
		row := l.row(run.spec, run.method, b.mean(), times, dense, r.Peak)
		row.Forced, row.Spread, row.clocks = run.forced, apart, mhz
		r.Rows = append(r.Rows, row)
		fmt.Fprintf(stderr, "%d tokens, %s, density %.3f: %.4f s\n", l.keys, run.spec, row.Density, row.Total)
	}
	return dev.Err()
}

// row sets a method's times beside dense attention's.
func (l *layer) row(spec string, m attention.Method, density float64, times, dense phases, peak float64) attentionBench {
	pairs := float64(l.rows) * (float64(l.first()) + float64(l.rows+1)/2)
	b := attentionBench{Tokens: l.keys, Attention: m.String(), Density: density, Seconds: times, Total: times.total(), spec: spec}
	b.GFLOPS = 4e-9 * pairs * float64(l.heads*l.headDim) * density / times.Attend
	b.PeakShare = b.GFLOPS / peak
	b.OfDense, b.Attend, b.Overhead = b.Total/dense.total(), times.Attend/dense.total(), (times.permute()+times.choose())/dense.total()
	return b
}

func (r attentionReport) print(to io.Writer) error {
	input := "made-up queries and keys"
	if r.Input != "" {
		input = r.Input
	}
	fmt.Fprintf(to, "%d heads, %d key heads, head dim %d, %s, %s; FMA peak measured in this run: %.0f GFLOP/s\n\n",
		r.Heads, r.KVHeads, r.HeadDim, input, r.setup.text(), r.Peak)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "tokens\tattention\tdensity\trank ms\tsort ms\tscore ms\tselect ms\tattend ms\tGFLOP/s\tof peak\tchoosing, of dense\tattend, of dense\tof dense\tspread\tclocks MHz\t")
	for _, b := range r.Rows {
		forced := ""
		if b.Forced {
			forced = " forced"
		}
		s := b.Seconds
		fmt.Fprintf(w, "%d\t%s\t%.3f%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t%.0f\t%.0f %%\t%.2f %%\t%.1f %%\t%.1f %%\t%s\t%s\t\n", b.Tokens, b.spec, b.Density, forced,
			1e3*s.Rank, 1e3*s.Sort, 1e3*s.Score, 1e3*s.Select, 1e3*s.Attend, b.GFLOPS, 100*b.PeakShare, 100*b.Overhead, 100*b.Attend, 100*b.OfDense, spreadText(b.Spread), b.clocks.text())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, b := range r.Rows {
		noteSpread(to, b.Tokens, b.spec, b.Spread)
		noteClocks(to, b.Tokens, b.spec, b.clocks)
	}
	return nil
}
