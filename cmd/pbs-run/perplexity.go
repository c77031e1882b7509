package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/tokenizer"
)

// perplexityFlags are the flags of perplexity beside the engine's.
type perplexityFlags struct {
	engineFlags
	text   string
	ids    string
	length int
	json   bool
}

func perplexityCommand() *cobra.Command {
	var f perplexityFlags
	cmd := &cobra.Command{
		Use:   "perplexity --model DIR --text-file F [--length N]",
		Short: "How well the model predicts a text, under an attention method",
		Long: `Prefill the first N tokens of a text once, special tokens of the tokenizer in front as Hugging Face puts them, and print the mean
negative log-likelihood of tokens 2 to N given those before them, and its exponential: what transformers computes with labels =
input_ids. The prefill attends by --attention; every row of it is scored.

  pbs-run perplexity -m DIR --text-file book.txt --length 16384 --attention pbs --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runPerplexity(cmd.Context(), &f, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.engineFlags.register(cmd, "full")
	fl := cmd.Flags()
	fl.StringVar(&f.text, "text-file", "", "`file` with the text; - is standard input")
	fl.StringVar(&f.ids, "ids", "", "JSON `file` with an array of token ids, in the place of --text-file")
	fl.IntVar(&f.length, "length", 0, "`tokens` to take from the start; 0 for all")
	registerJSON(cmd, &f.json)
	return cmd
}

// perplexityReport is what perplexity prints.
type perplexityReport struct {
	Model string `json:"model"`
	methodReport
	Tokens     int     `json:"tokens"`
	NLL        float64 `json:"mean_nll"`
	Perplexity float64 `json:"perplexity,omitempty"` // left out where it is beyond float64
	densities
	Seconds float64 `json:"seconds"`
	setup
}

func (r perplexityReport) print(to io.Writer) error {
	_, err := fmt.Fprintf(to, "perplexity %.4f (mean NLL %.6f) over %d tokens · attention %s, density %.3f · %s · %.1f s\n",
		math.Exp(r.NLL), r.NLL, r.Tokens, r.methodReport.text(), r.Density, r.setup.text(), r.Seconds)
	return err
}

func runPerplexity(ctx context.Context, f *perplexityFlags, stdin io.Reader, stdout, stderr io.Writer) error {
	if (f.text == "") == (f.ids == "") {
		return errors.New("give one of --text-file and --ids")
	}
	if f.length < 0 || f.length == 1 {
		return fmt.Errorf("--length %d: want 2 tokens or more, or 0 for all", f.length)
	}
	e, err := f.open()
	if err != nil {
		return err
	}
	defer e.close()
	ids, err := f.tokens(e, stdin)
	if err != nil {
		return err
	}
	s, err := e.session(len(ids), 0)
	if err != nil {
		return err
	}
	bar := watch(s, stderr, len(ids), e.Layers)
	start := time.Now()
	r := perplexityReport{Model: e.dir, methodReport: methodsUsed(e.method, e.methods), Tokens: len(ids), setup: e.setup()}
	want := make([]int, len(ids)-1)
	for i := range want {
		want[i] = i
	}
	sum := 0.0
	err = s.Logits(ctx, ids, want, func(i int, logits []float32) error {
		bar.close()
		sum += nll(logits, ids[i+1])
		return nil
	})
	bar.close()
	if err != nil {
		return err
	}
	r.NLL = sum / float64(len(want))
	if r.Perplexity = math.Exp(r.NLL); math.IsInf(r.Perplexity, 1) {
		r.Perplexity = 0 // JSON has no infinity
	}
	r.densities = densitiesOf(s.Density())
	r.Seconds = time.Since(start).Seconds()
	return show(r, f.json, stdout)
}

// tokens are the first of the text's or the file's.
func (f *perplexityFlags) tokens(e *engine, stdin io.Reader) (ids []int32, err error) {
	source := "--ids " + f.ids
	if f.ids != "" {
		ids, err = readIDs(f.ids)
	} else {
		source = "--text-file " + f.text
		ids, err = f.encode(e, stdin)
	}
	if err != nil {
		return nil, err
	}
	if n := f.length; n > len(ids) || len(ids) < 2 {
		return nil, fmt.Errorf("%s has %d tokens; want %d or more", source, len(ids), max(n, 2))
	}
	if f.length > 0 {
		ids = ids[:f.length]
	}
	return ids, nil
}

func (f *perplexityFlags) encode(e *engine, stdin io.Reader) ([]int32, error) {
	in := inputFlags{file: f.text}
	text, err := in.document(stdin)
	if err != nil {
		return nil, err
	}
	tok, err := e.tokenizer()
	if err != nil {
		return nil, err
	}
	defer tok.Close()
	return tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
}

// nll is -log softmax(logits)[id], in float64.
func nll(logits []float32, id int32) float64 {
	top := logits[0]
	for _, l := range logits {
		top = max(top, l)
	}
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - float64(top))
	}
	return math.Log(sum) + float64(top) - float64(logits[id])
}
