package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/model"
)

func benchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure speed"}
	cmd.AddCommand(benchPrefillCommand())
	return cmd
}

// benchFlags are the flags of bench prefill beside the engine's.
type benchFlags struct {
	engineFlags
	lengths   []string
	warmup    int
	repeat    int
	decode    int
	lastLayer bool
	json      bool
}

func benchPrefillCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "prefill --model DIR --lengths 2048,8K,32K",
		Short: "Time to first token and decode speed at several prompt lengths",
		Long: `Time prefills of random tokens, and some decode steps after each, and set them beside what the machine can do:
the FMA peak and the read bandwidth measured in the same run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBenchPrefill(cmd.Context(), &f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.engineFlags.register(cmd)
	fl := cmd.Flags()
	fl.StringSliceVar(&f.lengths, "lengths", []string{"2048", "8192"}, "prompt lengths, K for 1024, separated by commas")
	fl.IntVar(&f.warmup, "warmup", 1, "untimed prefills of 128 tokens before the first timed one")
	fl.IntVar(&f.repeat, "repeat", 3, "timed prefills per length")
	fl.IntVar(&f.decode, "decode", 16, "decode steps timed after each prefill; 0 for none")
	fl.BoolVar(&f.lastLayer, "whole-last-layer", false, "compute the last layer for every row, as engines without that saving do")
	fl.BoolVar(&f.json, "json", false, "print one JSON object")
	return cmd
}

// benchReport is what bench prefill --json prints.
type benchReport struct {
	Model          string        `json:"model"`
	Params         int64         `json:"parameters"`
	Attention      string        `json:"attention"`
	Precision      string        `json:"precision"`
	KVDType        string        `json:"kv_dtype"`
	ISA            string        `json:"isa"`
	Threads        int           `json:"threads"`
	WholeLastLayer bool          `json:"whole_last_layer"`
	Peak           float64       `json:"fma_peak_gflops"`
	Bandwidth      float64       `json:"read_bandwidth_gbytes_per_second"`
	Lengths        []lengthBench `json:"lengths"`
}

// lengthBench is the measurement of one prompt length. Work counts a multiply-add as two operations and causal attention once.
type lengthBench struct {
	Tokens         int       `json:"tokens"`
	Seconds        []float64 `json:"seconds"`
	Median         float64   `json:"median_seconds"`
	TokensPerSec   float64   `json:"tokens_per_second"`
	GFLOP          float64   `json:"gflop"`
	PeakShare      float64   `json:"peak_share"`
	DecodeRate     float64   `json:"decode_tokens_per_second,omitempty"`
	BandwidthShare float64   `json:"decode_bandwidth_share,omitempty"` // bytes of weights and KV touched per token
}

func runBenchPrefill(ctx context.Context, f *benchFlags, stdout, stderr io.Writer) error {
	lengths, err := parseLengths(f.lengths)
	if err != nil {
		return err
	}
	if f.repeat < 1 || f.warmup < 0 || f.decode < 0 {
		return fmt.Errorf("--repeat %d, --warmup %d, --decode %d: want at least 1, 0, 0", f.repeat, f.warmup, f.decode)
	}
	e, err := f.open()
	if err != nil {
		return err
	}
	defer e.close()
	s, err := e.session(slices.Max(lengths), f.decode)
	if err != nil {
		return err
	}
	s.WholeLastLayer = f.lastLayer
	r := benchReport{
		Model: e.dir, Params: e.Params(), Attention: e.method.String(), Precision: e.precision, KVDType: f.kvDType, ISA: e.dev.ISA(),
		Threads: e.dev.Threads(), WholeLastLayer: f.lastLayer, Peak: e.dev.FMAPeak(),
	}
	if r.Bandwidth, err = e.dev.ReadBandwidth(bandwidthBytes); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range f.warmup {
		if _, _, err := f.once(ctx, e, s, rng, min(128, lengths[0])); err != nil {
			return err
		}
	}
	for _, n := range lengths {
		b := lengthBench{Tokens: n, GFLOP: e.prefillGFLOP(n, f.lastLayer)}
		var decodes []float64
		for i := range f.repeat {
			prefill, decode, err := f.once(ctx, e, s, rng, n)
			if err != nil {
				return err
			}
			b.Seconds = append(b.Seconds, prefill)
			decodes = append(decodes, decode)
			fmt.Fprintf(stderr, "%d tokens, run %d of %d: %.3f s\n", n, i+1, f.repeat, prefill)
		}
		b.Median = median(b.Seconds)
		b.TokensPerSec = float64(n) / b.Median
		b.PeakShare = b.GFLOP / b.Median / r.Peak
		if d := median(decodes); d > 0 {
			b.DecodeRate = 1 / d
			b.BandwidthShare = e.decodeBytes(n+f.decode/2) / d / (1e9 * r.Bandwidth)
		}
		r.Lengths = append(r.Lengths, b)
	}
	if f.json {
		return json.NewEncoder(stdout).Encode(r)
	}
	return r.print(stdout)
}

// bandwidthBytes is what the read bandwidth is measured over: far more than any cache holds.
const bandwidthBytes = 1 << 30

// once times one prefill of n random tokens from an empty cache, and the mean decode step after it.
func (f *benchFlags) once(ctx context.Context, e *engine, s *model.Session, rng *rand.Rand, n int) (prefill, decode float64, err error) {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = rng.Int32N(int32(e.Vocab))
	}
	s.Truncate(0)
	greedy := model.Options{Sampling: model.Sampling{TopP: 1, RepetitionPenalty: 1}, MaxNew: 1 + f.decode, IgnoreEOS: true}
	start := time.Now()
	for _, err := range s.Generate(ctx, ids, greedy) {
		if err != nil {
			return 0, 0, err
		}
		if prefill == 0 {
			prefill = time.Since(start).Seconds()
		}
	}
	if f.decode > 0 {
		decode = (time.Since(start).Seconds() - prefill) / float64(f.decode)
	}
	return prefill, decode, nil
}

// prefillGFLOP is the work of a prefill of n tokens, as it is really done: without whole, the last layer computes q,
// attention, o and MLP for one row.
func (e *engine) prefillGFLOP(n int, whole bool) float64 {
	rows, heads, kv := float64(n), float64(e.Heads*e.HeadDim), float64(e.KVHeads*e.HeadDim)
	hidden, inter := float64(e.Hidden), float64(e.Intermediate)
	layer := rows*hidden*(2*heads+2*kv+3*inter) + rows*(rows+1)*heads // Σ over rows of 2·keys·heads multiply-adds
	full, last := float64(e.Layers), 0.0
	if !whole {
		full--
		last = rows*hidden*2*kv + hidden*(2*heads+3*inter) + 2*rows*heads
	}
	return 2e-9 * (full*layer + last + hidden*float64(e.Vocab))
}

// decodeBytes is the memory that one decode step at position n has to read: every weight but the embedding's other rows,
// and the cache.
func (e *engine) decodeBytes(n int) float64 {
	bytes := float64(e.weights)
	if !e.TiedHead {
		bytes -= float64(e.weights) * float64(e.Vocab) * float64(e.Hidden) / float64(e.Params())
	}
	perToken := 2 * e.Layers * e.KVHeads * e.HeadDim * e.kv.Size()
	return bytes + float64(n)*float64(perToken)
}

func (r benchReport) print(to io.Writer) error {
	fmt.Fprintf(to, "%s, %.3f B parameters, attention %s, %s on %s, %d threads, KV %s\n", r.Model, float64(r.Params)/1e9, r.Attention, r.Precision, r.ISA, r.Threads, r.KVDType)
	fmt.Fprintf(to, "measured in this run: FMA peak %.0f GFLOP/s, read bandwidth %.1f GB/s\n\n", r.Peak, r.Bandwidth)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "tokens\tmedian s\ttokens/s\tGFLOP/s\tof peak\tdecode tokens/s\tof bandwidth\t")
	for _, b := range r.Lengths {
		fmt.Fprintf(w, "%d\t%.3f\t%.0f\t%.0f\t%.0f %%\t%.1f\t%.0f %%\t\n", b.Tokens, b.Median, b.TokensPerSec, b.GFLOP/b.Median, 100*b.PeakShare, b.DecodeRate, 100*b.BandwidthShare)
	}
	return w.Flush()
}

// parseLengths reads numbers of tokens such as 2048 and 32K.
func parseLengths(words []string) ([]int, error) {
	var lengths []int
	for _, word := range words {
		digits, k := strings.CutSuffix(strings.ToUpper(strings.TrimSpace(word)), "K")
		n, err := strconv.Atoi(digits)
		if k {
			n <<= 10
		}
		if err != nil || n < 1 || n > 1<<24 {
			return nil, fmt.Errorf("--lengths %q: want numbers of tokens such as 2048 or 32K", word)
		}
		lengths = append(lengths, n)
	}
	return lengths, nil
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
