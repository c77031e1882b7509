package main

import (
	"context"
	"encoding/binary"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/loader"
)

// logitsFlags are the flags of logits beside the engine's.
type logitsFlags struct {
	engineFlags
	ids       string
	positions string
	out       string
}

func logitsCommand() *cobra.Command {
	var f logitsFlags
	cmd := &cobra.Command{
		Use:   "logits --model DIR --ids FILE.json --out FILE.safetensors [flags]",
		Short: "Write a prompt's logits to a safetensors file",
		Long: `Write the logits of one prefill to a safetensors file, to compare engines: logits [positions, vocab] F32 and
positions [positions] I64. The ids are used as given; no BOS is added.

  pbs-run tokenize -m DIR --add-special < text.txt > ids.json
  pbs-run logits -m DIR --ids ids.json --positions all --kv-dtype f32 --out logits.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runLogits(cmd.Context(), &f) },
	}
	f.engineFlags.register(cmd, "full")
	fl := cmd.Flags()
	fl.StringVar(&f.ids, "ids", "", "JSON `file` with an array of token ids")
	fl.StringVar(&f.positions, "positions", "last", "`positions` to write: last, all, or a list such as 1,5,9 or 0-99")
	fl.StringVar(&f.out, "out", "", "safetensors `file` to write")
	must(cmd.MarkFlagRequired("ids"))
	must(cmd.MarkFlagRequired("out"))
	return cmd
}

func runLogits(ctx context.Context, f *logitsFlags) error {
	ids, err := heed(ctx, func() ([]int32, error) { return readIDs(f.ids) })
	if err != nil {
		return err
	}
	want, err := parsePositions(f.positions, len(ids))
	if err != nil {
		return err
	}
	if err := checkOut("--out", f.out, f.ids); err != nil {
		return err
	}
	e, err := heed(ctx, f.open)
	if err != nil {
		return err
	}
	defer e.close()
	if err := checkApart("--out", f.out, e.dir); err != nil {
		return err
	}
	s, err := e.session(len(ids), 0)
	if err != nil {
		return err
	}
	w, err := loader.Create(f.out, []loader.Out{
		{Name: "logits", DType: "F32", Dims: []int{len(want), e.Vocab}},
		{Name: "positions", DType: "I64", Dims: []int{len(want)}},
	})
	if err != nil {
		return err
	}
	defer w.Abort()
	err = s.Logits(ctx, ids, want, func(_ int, logits []float32) error {
		_, err := w.Write(bytesOf(logits))
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range want {
		if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(p))); err != nil {
			return err
		}
	}
	return w.Close()
}

// parsePositions reads --positions for a prompt of n tokens.
func parsePositions(spec string, n int) ([]int, error) {
	switch spec {
	case "last":
		return []int{n - 1}, nil
	case "all":
		want := make([]int, n)
		for i := range want {
			want[i] = i
		}
		return want, nil
	}
	return parseIndices("--positions", spec, n)
}
