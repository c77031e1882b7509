package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pbs-run/pbs-run/model"
)

// generateFlags are the flags of generate beside the engine's.
type generateFlags struct {
	engineFlags
	input     inputFlags
	sampling  samplingFlags
	maxNew    int
	ignoreEOS bool
	stop      []string
	truncate  string
	debug     bool
	stats     bool
	questions string
	json      bool
}

func generateCommand() *cobra.Command {
	var f generateFlags
	cmd := &cobra.Command{
		Use:   "generate --model DIR|org/name [flags] [question...]",
		Short: "Answer a prompt, streaming the answer to standard output",
		Long: `Answer a prompt. The prompt is the --prompt-file (or standard input, as "-"), followed by the question given as
arguments; either alone will do, and with neither standard input is the prompt. It goes through the model's chat
template unless --no-chat-template is given. The answer streams to standard output, a summary goes to standard error.

  pbs-run generate -m Qwen/Qwen2.5-7B-Instruct-1M -f book.txt "Who is the narrator?"
  pbs-run generate -m DIR -f document.txt --needle --seed 3     # hide a number in the document and ask for it
  pbs-run generate -m DIR -f book.txt --questions questions.txt # one question per line, the book is prefilled once
  pbs-run generate -m DIR -f book.txt --stats "Who is it?"      # which heads of which layers attended to how much`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.input.question = strings.Join(args, " ")
			return runGenerate(cmd.Context(), &f, cmd.Flags().Changed, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.engineFlags.register(cmd, defaultMethod)
	f.input.register(cmd)
	f.sampling.register(cmd)
	fl := cmd.Flags()
	fl.IntVarP(&f.maxNew, "max-new-tokens", "n", 256, "tokens to generate at most")
	fl.BoolVar(&f.ignoreEOS, "ignore-eos", false, "go on after a stop token")
	fl.StringArrayVar(&f.stop, "stop", nil, "end the answer before this `text`; may be repeated")
	fl.StringVar(&f.truncate, "truncate", "", "`middle`: cut the middle out of a prompt that is too long for the model")
	fl.StringVar(&f.questions, "questions", "", "`file` with a question per line, - is standard input; the --prompt-file is prefilled once and each is answered over it")
	fl.BoolVar(&f.stats, "stats", false, "show density by layer and head, and what it would be without permutation (one more selection per layer)")
	fl.BoolVar(&f.debug, "debug", false, "check every layer's output for NaN and infinity")
	fl.BoolVar(&f.json, "json", false, "print one JSON object instead of the answer and the summary; with --questions one for each question, on a line of its own")
	return cmd
}

// result is what generate --json prints.
type result struct {
	Model           string  `json:"model"`
	PromptTokens    int     `json:"prompt_tokens"`
	TruncatedTokens int     `json:"truncated_tokens"`
	OutputIDs       []int32 `json:"output_ids"`
	Text            string  `json:"text"`
	FinishReason    string  `json:"finish_reason"` // stop, length or interrupted
	LoadSeconds     float64 `json:"load_seconds"`
	TTFT            float64 `json:"ttft_seconds"` // from before tokenisation to the first token
	TotalSeconds    float64 `json:"total_seconds"`
	PrefillRate     float64 `json:"prefill_tokens_per_second"`
	DecodeRate      float64 `json:"decode_tokens_per_second"`
	methodReport
	densities
	setup
	Seed    uint64  `json:"seed"`
	PeakRSS int64   `json:"peak_rss_bytes"`
	Needle  *needle `json:"needle,omitempty"`
}

// maxNewTokens bounds --max-new-tokens, far above what any memory holds.
const maxNewTokens = 1 << 30

func runGenerate(ctx context.Context, f *generateFlags, changed func(string) bool, stdin io.Reader, stdout, stderr io.Writer) error {
	if err := checkWithin(within{"--max-new-tokens", f.maxNew, 1, maxNewTokens}); err != nil {
		return err
	}
	if f.truncate != "" && f.truncate != "middle" {
		return fmt.Errorf("--truncate %q: want middle", f.truncate)
	}
	if err := f.input.check(); err != nil {
		return err
	}
	var questions []string
	if f.questions != "" {
		var err error
		if questions, err = heed(ctx, func() ([]string, error) { return f.readQuestions(stdin) }); err != nil {
			return err
		}
	}
	if !changed("seed") {
		f.sampling.Seed = rand.Uint64()
	}
	e, err := heed(ctx, f.open)
	if err != nil {
		return err
	}
	defer e.close()
	opt := model.Options{Sampling: f.sampling.over(e.Config.Sampling, changed), MaxNew: f.maxNew, IgnoreEOS: f.ignoreEOS}
	if err := opt.Validate(); err != nil {
		return err
	}
	if questions != nil {
		return f.answerAll(ctx, e, questions, opt, stdin, stdout, stderr)
	}
	if f.input.fromStdin() && isTerminal(stdin) {
		fmt.Fprintln(stderr, "pbs-run: the prompt comes from the terminal: type it, then press Ctrl-D (--help shows other ways)")
	}
	in, err := heed(ctx, func() (input, error) { return f.input.read(stdin, f.sampling.Seed) })
	if err != nil {
		return err
	}
	if in.needle != nil && !f.json {
		fmt.Fprintf(stdout, "Question: %s\nAnswer:  %s", in.needle.Question, in.prefix)
	}
	r, err := f.answer(ctx, e, in, opt, stdout, stderr)
	if err != nil && r.FinishReason != "interrupted" {
		return err
	}
	if r.FinishReason != "interrupted" {
		r.Needle = in.needle.judge(r.Text)
	}
	if f.json {
		if err := json.NewEncoder(stdout).Encode(r); err != nil {
			return err
		}
	} else {
		r.summary(stderr)
		if f.stats {
			r.densities.print(stderr)
		}
	}
	if err == nil && r.Needle != nil && !r.Needle.Found {
		err = fmt.Errorf("the answer does not hold the needle's number %s", r.Needle.Expected)
	}
	return err
}

func (f *generateFlags) newResult(e *engine, seed uint64) result {
	return result{
		Model: e.dir, methodReport: methodsUsed(e.method, e.methods), setup: e.setup(),
		Seed: seed, LoadSeconds: e.loadTime.Seconds(), OutputIDs: []int32{},
	}
}

// session makes a session as the flags ask for it.
func (f *generateFlags) session(e *engine, n, maxNew int) (*model.Session, error) {
	s, err := e.session(n, maxNew)
	if err != nil {
		return nil, err
	}
	if s.CompareUnpermuted = f.stats; f.debug {
		s.AfterLayer = checkFinite
	}
	return s, nil
}

// answer tokenizes, prefills and decodes. Its result is good as far as it got when ctx ends the run.
func (f *generateFlags) answer(ctx context.Context, e *engine, in input, opt model.Options, stdout, stderr io.Writer) (result, error) {
	r := f.newResult(e, opt.Seed)
	start := time.Now() // a user waits for tokenisation too
	p, err := heed(ctx, func() (prompt, error) { return in.tokens(e) })
	if err != nil {
		return r, err
	}
	defer p.close()
	ids := p.ids
	if in.warning != "" {
		fmt.Fprintf(stderr, "pbs-run: %s\n", in.warning)
	}
	if ids, r.TruncatedTokens = f.cut(ids, e.MaxPositions-opt.MaxNew); r.TruncatedTokens > 0 {
		fmt.Fprintf(stderr, "pbs-run: --truncate middle: cut %d of %d prompt tokens out of the middle\n", r.TruncatedTokens, len(ids)+r.TruncatedTokens)
	}
	r.PromptTokens = len(ids)
	s, err := f.session(e, len(ids), opt.MaxNew)
	if errors.Is(err, model.ErrTooLong) && f.truncate == "" {
		err = fmt.Errorf("%w; --truncate middle cuts what is too much out of it", err)
	}
	if err != nil {
		return r, err
	}
	bar := watch(s, stderr, len(ids), e.Layers)
	err = f.decode(ctx, e, s, ids, opt, &r, start, newAnswer(p.tok, f.stop, stdout, f.json), bar.close)
	r.densities = densitiesOf(s.Density())
	return r, err
}

// decode runs ids and the tokens that follow through s and collects the answer in r, for a user who waits since start. It
// calls prefilled before it writes anything.
func (f *generateFlags) decode(ctx context.Context, e *engine, s *model.Session, ids []int32, opt model.Options, r *result, start time.Time, out *answer, prefilled func()) error {
	r.FinishReason = "length"
	for id, err := range s.Generate(ctx, ids, opt) {
		prefilled()
		if err != nil {
			if ctx.Err() != nil {
				r.FinishReason = "interrupted"
				r.finish(start, out, len(ids))
			}
			return err
		}
		if len(r.OutputIDs) == 0 {
			r.TTFT = time.Since(start).Seconds()
		}
		r.OutputIDs = append(r.OutputIDs, id)
		if e.IsEOS(id) && !opt.IgnoreEOS {
			r.FinishReason = "stop"
			break
		}
		stopped, err := out.add(id)
		if err != nil {
			return err
		}
		if stopped {
			r.FinishReason = "stop"
			break
		}
	}
	r.finish(start, out, len(ids))
	return out.err
}

// finish completes r after a prefill of n tokens.
func (r *result) finish(start time.Time, out *answer, n int) {
	out.flush()
	r.Text = out.text.String()
	r.TotalSeconds = time.Since(start).Seconds()
	if r.TTFT > 0 {
		r.PrefillRate = float64(n) / r.TTFT
	}
	if n := len(r.OutputIDs) - 1; n > 0 {
		r.DecodeRate = float64(n) / (r.TotalSeconds - r.TTFT)
	}
	r.PeakRSS = peakRSS()
}

// cut keeps the first and the last half of limit tokens where --truncate middle asks for it. It returns how many it dropped.
func (f *generateFlags) cut(ids []int32, limit int) ([]int32, int) {
	if f.truncate != "middle" || len(ids) <= limit || limit < 2 {
		return ids, 0
	}
	head, tail := limit/2, limit-limit/2
	return append(ids[:head:head], ids[len(ids)-tail:]...), len(ids) - limit
}

// summary prints r for people.
func (r *result) summary(w io.Writer) {
	fmt.Fprintf(w, "\nprompt %d tokens · first token after %.2f s (%.0f tokens/s) · %d new tokens", r.PromptTokens, r.TTFT, r.PrefillRate, len(r.OutputIDs))
	if r.DecodeRate > 0 {
		fmt.Fprintf(w, " (%.1f tokens/s)", r.DecodeRate)
	}
	fmt.Fprintf(w, " · %s\nattention %s, density %.3f · %s · peak memory %s · seed %d\n",
		r.FinishReason, r.methodReport.text(), r.Density, r.setup.text(), model.GiB(r.PeakRSS), r.Seed)
	if r.Needle != nil {
		verdict := "RIGHT"
		if !r.Needle.Found {
			verdict = "WRONG"
		}
		fmt.Fprintf(w, "needle %s at %.0f %% of the document: %s\n", r.Needle.Expected, 100*r.Needle.Depth, verdict)
	}
}

// isTerminal reports whether a stream is a terminal, one that wants bars if it is written to.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

var errEmptyPrompt = errors.New("the prompt is empty: give a question, --prompt-file, --messages, --ids or text on standard input")
