package main

import (
	"fmt"
	"io"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

func verifyCommand() *cobra.Command {
	var name string
	var values bool
	cmd := &cobra.Command{
		Use:   "verify --model DIR|org/name",
		Short: "Check a model's files",
		Long: `Check a model's files: sizes, headers, index, hashes where the Hugging Face cache has them, that every weight the
config asks for is there, and with --values that no weight is NaN or infinite. Exits with 1 if there is a problem.

  pbs-run verify -m DIR --values`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVerify(name, values, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVarP(&name, "model", "m", "", "model `folder`, or org/name in the Hugging Face cache")
	cmd.Flags().BoolVar(&values, "values", false, "read every weight and look for NaN and infinity")
	must(cmd.MarkFlagRequired("model"))
	return cmd
}

func runVerify(name string, values bool, stdout, stderr io.Writer) error {
	dir, err := loader.Find(name)
	if err != nil {
		return err
	}
	progress := func(done, total int64) {}
	if bar := drawBar(stderr, 1, progressbar.OptionShowBytes(true)); bar != nil {
		progress = func(done, total int64) {
			bar.ChangeMax64(total)
			_ = bar.Set64(done) // a bar that cannot be drawn spoils nothing
		}
	}
	r, err := loader.Verify(dir, values, progress)
	if err != nil {
		return err
	}
	if len(r.Problems) == 0 {
		if err := checkModel(dir); err != nil {
			r.Problems = append(r.Problems, err.Error())
		}
	}
	fmt.Fprintf(stdout, "%s: %d files, %d tensors, %s; %d files compared with a hash\n", dir, len(r.Files), r.Tensors, model.GiB(r.Bytes), len(r.Hashed))
	for _, n := range r.Notes {
		fmt.Fprintln(stdout, "note:", n)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(stdout, "problem:", p)
	}
	if n := len(r.Problems); n > 0 {
		return fmt.Errorf("verify %s: %d problems", dir, n)
	}
	fmt.Fprintln(stdout, "ok")
	return nil
}

// checkModel opens the model as generate does, which finds missing and misshapen weights and a tokenizer that does not fit.
func checkModel(dir string) error {
	f := engineFlags{model: dir, loadFormat: "auto", attention: "full", device: "cpu", precision: "auto", kvDType: "bf16"}
	e, err := f.open()
	if err != nil {
		return err
	}
	defer e.close()
	tok, err := e.tokenizer()
	if err != nil {
		return err
	}
	tok.Close()
	return nil
}
