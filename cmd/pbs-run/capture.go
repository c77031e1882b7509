package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/loader"
)

// captureFlags are the flags of capture beside the engine's.
type captureFlags struct {
	engineFlags
	input  inputFlags
	seed   uint64
	layers string
	out    string
}

func captureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture --model DIR --prompt-file F --layers 3,17 --out DIR [question...]",
		Short: "Write the queries, keys and values of a real prefill to safetensors files",
		Long: `Prefill a prompt and write what some layers' attention works on, after RoPE, to DIR/layerN.safetensors: q [heads, n, headDim],
k and v [kvHeads, n, headDim], in the types the engine computes with (see --precision and --kv-dtype). The prompt is made as by
generate. pbs-run attend reads these files. The run ends after the last of the layers; those before it attend by --attention.

  pbs-run capture -m DIR -f book.txt --layers 3,17 --out qkv "Who is the narrator?"
  pbs-run attend --input qkv/layer3.safetensors --attention pbs`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.input.question = strings.Join(args, " ")
			return runCapture(cmd.Context(), &f, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.engineFlags.register(cmd, "full")
	f.input.register(cmd)
	fl := cmd.Flags()
	fl.Uint64VarP(&f.seed, "seed", "s", 0, "seed of --needle")
	fl.StringVar(&f.layers, "layers", "", "`layers` to write, as in 3,17 or 0-2")
	fl.StringVar(&f.out, "out", "", "`folder` for the files; made where it is missing")
	must(cmd.MarkFlagRequired("layers"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

// errCaptured ends a prefill whose later layers nobody wants.
var errCaptured = errors.New("all layers are captured")

func runCapture(ctx context.Context, f *captureFlags, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := f.input.check(); err != nil {
		return err
	}
	e, err := heed(ctx, f.open)
	if err != nil {
		return err
	}
	defer e.close()
	layers, err := parseIndices("--layers", f.layers, e.Layers)
	if err != nil {
		return err
	}
	in, err := heed(ctx, func() (input, error) { return f.input.read(stdin, f.seed) })
	if err != nil {
		return err
	}
	p, err := heed(ctx, func() (prompt, error) { return in.tokens(e) })
	if err != nil {
		return err
	}
	p.close()
	ids := p.ids
	s, err := e.session(len(ids), 0)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	bar := watch(s, stderr, len(ids), e.Layers)
	defer bar.close()
	s.WholeLastLayer = true // or its queries would be those of the last block alone
	var written []string
	s.BeforeAttention = func(i int, q kernels.Tensor, kv kernels.KV, _ int) error {
		if !slices.Contains(layers, i) {
			return nil
		}
		path := filepath.Join(f.out, fmt.Sprintf("layer%d.safetensors", i))
		if err := writeLayer(ctx, e.dev, path, e.HeadDim, q, kv); err != nil {
			return err
		}
		if written = append(written, path); i == layers[len(layers)-1] {
			return errCaptured
		}
		return nil
	}
	err = s.Logits(ctx, ids, []int{len(ids) - 1}, func(int, []float32) error { return nil })
	if !errors.Is(err, errCaptured) {
		return err
	}
	bar.close()
	for _, path := range written {
		if _, err := fmt.Fprintln(stdout, path); err != nil {
			return err
		}
	}
	return nil
}

// writeLayer writes the queries q [n, heads·headDim] and the first n keys and values of kv.
func writeLayer(ctx context.Context, dev kernels.Device, path string, headDim int, q kernels.Tensor, kv kernels.KV) error {
	n, heads, kvHeads := q.Rows(), q.Cols()/headDim, kv.K.Dims[0]
	out := func(name string, t kernels.Tensor, heads int, write func(w io.Writer, data []byte, h int) error) output {
		return output{loader.Out{Name: name, DType: t.DType.String(), Dims: []int{heads, n, headDim}}, func(w io.Writer) error {
			data, err := onHost(dev, t)
			for h := 0; h < heads && err == nil; h++ {
				err = write(w, data, h)
			}
			return err
		}}
	}
	queries := func(w io.Writer, data []byte, h int) error {
		row := headDim * q.DType.Size()
		for i := range n {
			if _, err := w.Write(data[(i*heads+h)*row:][:row]); err != nil {
				return err
			}
		}
		return nil
	}
	cached := func(w io.Writer, data []byte, h int) error {
		row := headDim * kv.K.DType.Size()
		_, err := w.Write(data[h*kv.K.Rows()*row:][:n*row])
		return err
	}
	return writeTensors(ctx, path, []output{out("q", q, heads, queries), out("k", kv.K, kvHeads, cached), out("v", kv.V, kvHeads, cached)})
}
