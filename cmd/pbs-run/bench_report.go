package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// benchReport is what bench prefill --json prints.
type benchReport struct {
	Model         string  `json:"model"`
	Params        int64   `json:"parameters"`
	Layers        int     `json:"layers"`
	Attention     string  `json:"attention"` // all of them, separated by blanks
	ForcedDensity float64 `json:"forced_density,omitempty"`
	Prompt        string  `json:"prompt"` // random tokens, or the file
	setup
	WholeLastLayer bool             `json:"whole_last_layer"`
	Peak           float64          `json:"fma_peak_gflops"`
	Lengths        []lengthBench    `json:"lengths"`
	BreakEven      []breakEvenBench `json:"break_even,omitempty"`
	Calibration    string           `json:"calibration_file,omitempty"`
	specs          []string
}

// lengthBench is the measurement of one prompt length and method. Work counts a multiply-add as two operations and the causal
// attention that was kept once.
type lengthBench struct {
	Tokens int `json:"tokens"`
	methodReport
	Seconds        []float64 `json:"seconds"`
	Median         float64   `json:"median_seconds"`
	P10            float64   `json:"p10_seconds"`
	P90            float64   `json:"p90_seconds"`
	Spread         float64   `json:"spread"` // standard deviation over mean
	TokensPerSec   float64   `json:"tokens_per_second"`
	GFLOP          float64   `json:"gflop"`
	PeakShare      float64   `json:"peak_share"`
	Density        float64   `json:"density"`
	PerLayer       []float64 `json:"density_per_layer"`
	Speedup        float64   `json:"speedup,omitempty"`       // over full at this length
	Bound          float64   `json:"speedup_bound,omitempty"` // if attention cost its density's share of full's, and choosing nothing
	Share          shares    `json:"share"`
	Phases         phases    `json:"phase_seconds"`                              // mean of the runs
	DecodeRate     float64   `json:"decode_tokens_per_second,omitempty"`         // of the median step
	Bandwidth      float64   `json:"read_bandwidth_gbytes_per_second,omitempty"` // measured after each run's steps
	BandwidthShare float64   `json:"decode_bandwidth_share,omitempty"`           // bytes of weights and KV touched per step, over its run's bandwidth
	clocks                   // after the last run's prefill
	spec           string
}

// shares are parts of the whole time, 0 to 1.
type shares struct {
	Permute float64 `json:"permute"` // rank and sort keys
	Select  float64 `json:"select"`  // score and select blocks
	Attend  float64 `json:"attend"`
	Linear  float64 `json:"linear"`
}

// breakEvenBench is the length from which a method beats full.
type breakEvenBench struct {
	Attention string `json:"attention"`
	Tokens    int    `json:"tokens"`  // 0: at no length measured
	Crossed   bool   `json:"crossed"` // false: tokens is the shortest length measured, where it was faster already
	spec      string
	points    []point
}

func (b *prefillBench) report() benchReport {
	e := b.e
	r := benchReport{
		Model: e.dir, Params: e.Params(), Layers: e.Layers, ForcedDensity: b.density, Prompt: "random tokens", setup: e.setup(),
		WholeLastLayer: b.lastLayer, Peak: e.dev.FMAPeak(),
	}
	if b.prompt != "" {
		r.Prompt = b.prompt
	}
	for _, c := range b.contenders {
		r.specs = append(r.specs, c.method.String())
	}
	r.Attention = strings.Join(r.specs, " ")
	return r
}

// row sums up the runs of one method at one length.
func (b *prefillBench) row(n int, c contender, runs []timing, d densities) lengthBench {
	l := lengthBench{Tokens: n, methodReport: methodsUsed(c.method, c.methods), Density: d.Density, PerLayer: d.PerLayer, spec: c.spec}
	l.GFLOP = b.e.prefillGFLOP(n, b.lastLayer, d.PerLayer)
	var steps, bandwidths, bandwidthShares []float64
	touched := b.e.decodeBytes(n + b.decode/2)
	for _, t := range runs {
		l.Seconds = append(l.Seconds, t.prefill)
		steps, bandwidths = append(steps, t.step), append(bandwidths, t.bandwidth)
		bandwidthShares = append(bandwidthShares, touched/(t.step*t.bandwidth))
		l.Phases = l.Phases.plus(t.phases, 1/float64(len(runs)))
	}
	l.Median, l.P10, l.P90, l.Spread = median(l.Seconds), quantile(l.Seconds, 0.1), quantile(l.Seconds, 0.9), spread(l.Seconds)
	l.clocks = runs[len(runs)-1].clocks
	l.TokensPerSec = float64(n) / l.Median
	sum := 0.0
	for _, s := range l.Seconds {
		sum += s / float64(len(l.Seconds))
	}
	l.Share = shares{l.Phases.permute() / sum, l.Phases.choose() / sum, l.Phases.Attend / sum, l.Phases.Linear / sum}
	if b.decode > 0 {
		l.DecodeRate, l.Bandwidth, l.BandwidthShare = 1/median(steps), median(bandwidths)/1e9, median(bandwidthShares)
	}
	return l
}

// add appends a row.
func (r *benchReport) add(l lengthBench) {
	l.PeakShare = l.GFLOP / l.Median / r.Peak
	r.Lengths = append(r.Lengths, l)
}

// compare sets the rows beside those of full, the first method, of the same length.
func (r *benchReport) compare() {
	if r.specs[0] != "full" || len(r.specs) == 1 {
		return
	}
	k := len(r.specs)
	for i := range r.Lengths {
		l, full := &r.Lengths[i], &r.Lengths[i/k*k]
		l.Speedup = full.Median / l.Median
		l.Bound = full.Median / (full.Median - (1-l.Density)*full.Phases.Attend)
	}
	for m := 1; m < k; m++ {
		b := breakEvenBench{Attention: r.specs[m], spec: r.Lengths[m].spec}
		for i := 0; i < len(r.Lengths); i += k {
			full, l := r.Lengths[i], r.Lengths[i+m]
			b.points = append(b.points, point{l.Tokens, full.Median, l.Median, l.Density})
		}
		b.Tokens, b.Crossed = breakEven(b.points)
		r.BreakEven = append(r.BreakEven, b)
	}
}

// prefillGFLOP is the work of a prefill of n tokens, as it is really done: of attention, the density of each layer; without whole, the
// last layer computes q, attention, o and MLP for one row.
func (e *engine) prefillGFLOP(n int, whole bool, density []float64) float64 {
	rows, heads, kv := float64(n), float64(e.Heads*e.HeadDim), float64(e.KVHeads*e.HeadDim)
	hidden, inter := float64(e.Hidden), float64(e.Intermediate)
	linear, attend := rows*hidden*(2*heads+2*kv+3*inter), rows*(rows+1)*heads // Σ over rows of 2·keys·heads multiply-adds
	sum := hidden * float64(e.Vocab)
	for i, d := range density {
		if i == len(density)-1 && !whole {
			sum += rows*hidden*2*kv + hidden*(2*heads+3*inter) + 2*rows*heads*d
		} else {
			sum += linear + attend*d
		}
	}
	return 2e-9 * sum
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
	fmt.Fprintf(to, "%s, %d layers, %.3f B parameters, %s, prompts of %s\n", r.Model, r.Layers, float64(r.Params)/1e9, r.setup.text(), r.Prompt)
	fmt.Fprintf(to, "measured in this run: FMA peak %.0f GFLOP/s\n", r.Peak)
	for i := range r.specs {
		fmt.Fprintf(to, "attention %s: %s\n", r.Lengths[i].spec, r.Lengths[i].methodReport.text())
	}
	if r.ForcedDensity > 0 {
		fmt.Fprintf(to, "DENSITY FORCED to %g in every sparse layer: these times hold for prompts that have it, and say nothing about which do\n", r.ForcedDensity)
	}
	fmt.Fprintln(to)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "tokens\tattention\tmedian s\tp10\tp90\tspread\tclocks MHz\ttokens/s\tof peak\tdensity\tspeed-up\tbound\tpermute\tselect\tattend\tlinear\tdecode tokens/s\tread GB/s\tof it\t")
	for _, l := range r.Lengths {
		ratio, decode := "-\t-", "-\t-\t-"
		if l.DecodeRate > 0 {
			decode = fmt.Sprintf("%.1f\t%.1f\t%.0f %%", l.DecodeRate, l.Bandwidth, 100*l.BandwidthShare)
		}
		if l.Speedup > 0 {
			ratio = fmt.Sprintf("%.2f\t%.2f", l.Speedup, l.Bound)
		}
		fmt.Fprintf(w, "%d\t%s\t%.3f\t%.3f\t%.3f\t%s\t%s\t%.0f\t%.0f %%\t%.3f\t%s\t%.1f %%\t%.1f %%\t%.1f %%\t%.1f %%\t%s\t\n", l.Tokens, l.spec, l.Median, l.P10, l.P90, spreadText(l.Spread), l.clocks.text(), l.TokensPerSec,
			100*l.PeakShare, l.Density, ratio, 100*l.Share.Permute, 100*l.Share.Select, 100*l.Share.Attend, 100*l.Share.Linear, decode)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range r.Lengths {
		noteSpread(to, l.Tokens, l.spec, l.Spread)
		noteClocks(to, l.Tokens, l.spec, l.clocks)
	}
	for _, b := range r.BreakEven {
		switch {
		case b.Tokens == 0:
			fmt.Fprintf(to, "%s is not faster than full at any of these lengths\n", b.spec)
		case !b.Crossed:
			fmt.Fprintf(to, "%s is faster than full at all of these lengths\n", b.spec)
		default:
			fmt.Fprintf(to, "%s is faster than full from about %d tokens\n", b.spec, b.Tokens)
		}
	}
	if r.Calibration != "" {
		fmt.Fprintf(to, "stored for --attention auto in %s\n", r.Calibration)
	}
	return nil
}
