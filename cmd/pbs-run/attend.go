package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/loader"
)

// attendFlags are the flags of attend.
type attendFlags struct {
	engineFlags // of these: attention, minLength, device, threads, precision
	input       string
	out         string
	block       int
	repeat      int
}

func attendCommand() *cobra.Command {
	var f attendFlags
	cmd := &cobra.Command{
		Use:   "attend --input QKV.safetensors --attention SPEC [--out OUT.safetensors]",
		Short: "Run one attention method on captured queries, keys and values",
		Long: `Run one method on the q [heads, n, headDim], k and v [kvHeads, n, headDim] (F32, BF16 or F16, after RoPE) of a safetensors
file such as pbs-run capture writes, compare it with dense attention, and print JSON: density, error_fro (the norm of the
difference over the norm of the dense output), error_max, and the seconds of each phase. Queries fewer than keys are those of the
last positions.

The output file holds out [heads, n, headDim] F32; perm [heads, n] I32, the key at each place of the method's order (as they
come where it has none); and mask [heads, query blocks, key blocks] U8 over blocks in that order, 1 where a block is computed, a
query block's own segment always; all 1 where attention is dense. For minference, whose mask holds the blocks that diagonals pass
through, it also holds vertical and slash [heads, k] I32: the keys and the distances that were chosen.

  pbs-run attend --input layer3.safetensors --attention pbs:tau=0.95 --out out.safetensors
  pbs-run attend --input layer3.safetensors --attention pbs --precision auto --repeat 5      # fast arithmetic, times`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAttend(cmd.Context(), &f, cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.input, "input", "", "safetensors `file` with q, k and v")
	fl.StringVar(&f.out, "out", "", "safetensors `file` to write")
	fl.StringVar(&f.attention, "attention", "pbs", "`method`, with settings as in pbs:tau=0.95; see pbs-run help attention")
	fl.IntVar(&f.minLength, "min-length", 0, minLengthHelp)
	fl.IntVar(&f.block, "block", 128, "block size of the mask of a method that has no blocks")
	fl.IntVar(&f.repeat, "repeat", 1, "`runs`; the fastest one's times are shown")
	f.registerDevice(cmd, "f32")
	must(cmd.MarkFlagRequired("input"))
	return cmd
}

// attendReport is what attend prints.
type attendReport struct {
	Input string `json:"input"`
	methodReport
	Heads      int           `json:"heads"`
	KVHeads    int           `json:"kv_heads"`
	HeadDim    int           `json:"head_dim"`
	Tokens     int           `json:"tokens"`
	Queries    int           `json:"queries"`
	Block      int           `json:"block"`
	Dense      bool          `json:"dense"` // the method is dense, or fell back to it
	Density    float64       `json:"density"`
	PerHead    []float64     `json:"density_per_head"`
	Unpermuted *float64      `json:"density_unpermuted,omitempty"` // with the keys in order, by the same rule
	ErrorFro   float64       `json:"error_fro"`
	ErrorMax   float64       `json:"error_max"`
	Seconds    attendSeconds `json:"seconds"`
	setup
}

type attendSeconds struct {
	phases
	Dense float64 `json:"dense"` // dense attention over the same input
}

func runAttend(ctx context.Context, f *attendFlags, stdout io.Writer) error {
	m, err := layerMethod(f.attention)
	if err != nil {
		return err
	}
	if err := checkWithin(within{"--block", f.block, 1, maxLength}); err != nil {
		return err
	}
	if err := checkLeast(atLeast{"--repeat", f.repeat, 1}, atLeast{"--min-length", f.minLength, 0}); err != nil {
		return err
	}
	if f.minLength > 0 {
		m = attention.DenseBelow{Method: m, Tokens: f.minLength}
	}
	if err := checkOut("--out", f.out, f.input); err != nil {
		return err
	}
	dev, err := f.openDevice()
	if err != nil {
		return err
	}
	defer dev.Close()
	defer context.AfterFunc(ctx, dev.Interrupt)()
	l, err := readLayer(dev, f.input, layerUse{2, []attention.Method{m}})
	if err != nil {
		return cause(ctx, err)
	}
	r := attendReport{
		Input: f.input, methodReport: methodsUsed(m, nil), Heads: l.heads, KVHeads: l.kvHeads, HeadDim: l.headDim, Tokens: l.keys, Queries: l.rows,
		setup: setupOf(dev, l.kv.K.DType),
	}
	a := attended{out: dev.Alloc(dev.Compute(), l.rows, l.heads*l.headDim)}
	dense := dev.Alloc(dev.Compute(), l.rows, l.heads*l.headDim)
	p := l.plan(dev, m)
	if err := dev.Err(); err != nil {
		return err
	}
	clock := newTimed(dev)
	full, _ := l.fastest(clock, attention.Full{}, nil, dense, f.repeat)
	r.Seconds.Dense = full.Attend
	if r.Unpermuted, err = l.unpermuted(dev, m, p); err != nil {
		return cause(ctx, err)
	}
	r.Seconds.phases, _ = l.fastest(clock, m, p, a.out, f.repeat)
	if a.blocks, err = blocksOf(dev, l, p, f.block); err != nil {
		return cause(ctx, err)
	}
	r.Block, r.Dense = a.blocks.block, a.blocks.plan == nil
	r.Density, r.PerHead = a.blocks.mean(), a.blocks.density
	if r.ErrorFro, r.ErrorMax, err = difference(dev, a.out, dense); err != nil {
		return cause(ctx, err)
	}
	if f.out != "" {
		if chosen, ok := chooser(m).(attention.MInference); ok {
			if a.lines, err = linesOf(dev, l, chosen, p); err != nil {
				return cause(ctx, err)
			}
		}
		if err := a.write(ctx, dev, f.out); err != nil {
			return err
		}
	}
	return json.NewEncoder(stdout).Encode(r)
}

// layerMethod is the method that --attention names for a layer without a model.
func layerMethod(spec string) (attention.Method, error) {
	if spec == "auto" {
		return nil, errors.New("--attention auto: chosen by the time of a model's whole prefill; name a method, as in --attention pbs")
	}
	return attention.Parse(spec)
}

// chooser is m without the length below which it is dense.
func chooser(m attention.Method) attention.Method {
	if d, ok := m.(attention.DenseBelow); ok {
		return d.Method
	}
	return m
}

// checkOut finds, before any work, that a file cannot be written because its folder is not there or something else has its
// name, or that it is one of the inputs.
func checkOut(flag, path string, inputs ...string) error {
	if path == "" {
		return nil
	}
	if _, err := loader.OutFile(path); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s %s: %w", flag, path, err)
	}
	return checkApart(flag, path, inputs...)
}

// checkApart finds that a file to be written is one of those that are read, or one in a folder of them.
func checkApart(flag, path string, inputs ...string) error {
	out, err := os.Stat(path)
	if err != nil {
		return nil // it is new
	}
	for _, input := range inputs {
		files := []string{input}
		entries, _ := os.ReadDir(input) // none in a file
		for _, e := range entries {
			files = append(files, filepath.Join(input, e.Name()))
		}
		for _, file := range files {
			if in, err := os.Stat(file); err == nil && os.SameFile(in, out) {
				return fmt.Errorf("%s %s: it would overwrite the input %s", flag, path, file)
			}
		}
	}
	return nil
}

// unpermuted is the density of m with the keys in order; nil where it does not reorder them.
func (l *layer) unpermuted(dev kernels.Device, m attention.Method, p *kernels.Plan) (*float64, error) {
	if !attention.ChooseUnpermuted(dev, m, p, l.q, l.kv, l.first()) {
		return nil, nil
	}
	b, err := blocksOf(dev, l, p, p.Block)
	if err != nil {
		return nil, err
	}
	d := b.mean()
	return &d, nil
}

// difference compares out with want: the norm of the difference over that of want, and the largest difference.
func difference(dev kernels.Device, out, want kernels.Tensor) (fro, most float64, err error) {
	a, err := onHost(dev, out)
	if err != nil {
		return 0, 0, err
	}
	b, err := onHost(dev, want)
	if err != nil {
		return 0, 0, err
	}
	x, y := make([]float32, out.Cols()), make([]float32, out.Cols())
	row := out.Cols() * out.DType.Size()
	var diff, norm float64
	for i := range out.Rows() {
		if !toFloat32(x, out.DType, a[i*row:]) || !toFloat32(y, out.DType, b[i*row:]) {
			return 0, 0, fmt.Errorf("the output of query %d is not finite", i)
		}
		for j := range x {
			d := float64(x[j]) - float64(y[j])
			diff += d * d
			norm += float64(y[j]) * float64(y[j])
			most = max(most, math.Abs(d))
		}
	}
	if norm == 0 {
		return math.Sqrt(diff), most, nil
	}
	return math.Sqrt(diff / norm), most, nil
}

// attended is a method's output over a layer.
type attended struct {
	out    kernels.Tensor // [rows, heads·headDim]
	blocks *blocks
	lines  lines // of MInference
}

// output is one tensor of the file and what writes it.
type output struct {
	loader.Out
	write func(io.Writer) error
}

// write makes the output file.
func (a *attended) write(ctx context.Context, dev kernels.Device, path string) error {
	b, l := a.blocks, a.blocks.layer
	list := []output{
		{loader.Out{Name: "out", DType: "F32", Dims: []int{l.heads, l.rows, l.headDim}}, func(w io.Writer) error { return a.writeOut(dev, w) }},
		{loader.Out{Name: "perm", DType: "I32", Dims: []int{l.heads, l.keys}}, b.writePerm},
		{loader.Out{Name: "mask", DType: "U8", Dims: []int{l.heads, b.queryBlocks(), b.keyBlocks()}}, b.writeMask},
	}
	for _, t := range []struct {
		name  string
		lines [][]int32 // as many for every head
	}{{"vertical", a.lines.vertical}, {"slash", a.lines.slash}} {
		if t.lines == nil {
			continue
		}
		list = append(list, output{loader.Out{Name: t.name, DType: "I32", Dims: []int{l.heads, len(t.lines[0])}}, func(w io.Writer) error {
			_, err := w.Write(bytesOf(slices.Concat(t.lines...)))
			return err
		}})
	}
	return writeTensors(ctx, path, list)
}

// writeTensors makes a safetensors file that is there whole or, where ctx ends before, not at all.
func writeTensors(ctx context.Context, path string, list []output) error {
	var header []loader.Out
	for _, o := range list {
		header = append(header, o.Out)
	}
	w, err := loader.Create(path, header)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, o := range list {
		if err := o.write(until{ctx, w}); err != nil {
			return err
		}
	}
	return w.Close()
}

// until is a Writer until ctx ends.
type until struct {
	ctx context.Context
	io.Writer
}

func (u until) Write(b []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Writer.Write(b)
}

// writeOut writes the output by heads, [heads, rows, headDim] F32.
func (a *attended) writeOut(dev kernels.Device, w io.Writer) error {
	data, err := onHost(dev, a.out)
	if err != nil {
		return err
	}
	l, size := a.blocks.layer, a.out.DType.Size()
	host := make([]float32, l.headDim)
	for h := range l.heads {
		for i := range l.rows {
			toFloat32(host, a.out.DType, data[(i*l.heads+h)*l.headDim*size:])
			if _, err := w.Write(bytesOf(host)); err != nil {
				return err
			}
		}
	}
	return nil
}
