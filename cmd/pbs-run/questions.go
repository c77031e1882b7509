package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pbs-run/pbs-run/model"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// questionResult is what generate --questions --json prints for each question. Its densities are those of the document's
// prefill, its time to first token starts when the question's own tokens go into the model.
type questionResult struct {
	Question        string  `json:"question"`
	CachedTokens    int     `json:"cached_tokens"`    // of the prompt, prefilled before
	DocumentSeconds float64 `json:"document_seconds"` // tokenisation of all prompts and prefill of what they share
	QuestionDensity float64 `json:"question_density"` // of the question's own prefill
	result
}

// readQuestions reads --questions, which stands in the place of other sources of a question.
func (f *generateFlags) readQuestions(stdin io.Reader) ([]string, error) {
	in := &f.input
	switch {
	case in.file == "":
		return nil, errors.New("--questions needs the document that they are about: --prompt-file FILE")
	case in.question != "" || in.hide || in.messages != "" || in.ids != "":
		return nil, errors.New("--questions excludes a question given as an argument, --needle, --messages and --ids")
	case f.truncate != "":
		return nil, errors.New("--questions excludes --truncate: what is cut would differ from question to question")
	case in.file == "-" && f.questions == "-":
		return nil, errors.New("--questions and --prompt-file cannot both read standard input")
	}
	source := inputFlags{file: f.questions}
	text, err := source.document(stdin)
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("--questions %s: no question in it; want one per line", f.questions)
	}
	return list, nil
}

// answerAll prefills what all prompts begin with, which is the document and what the chat template puts around it, and answers each
// question from there. How far that reaches is decided on tokens, so that the answers are those to the whole prompts.
func (f *generateFlags) answerAll(ctx context.Context, e *engine, questions []string, opt model.Options, stdin io.Reader, stdout, stderr io.Writer) error {
	start := time.Now()
	document, err := heed(ctx, func() (string, error) { return f.input.document(stdin) })
	if err != nil {
		return err
	}
	all, err := heed(ctx, func() (prompts, error) { return f.prompts(e, document, questions) })
	if err != nil {
		return err
	}
	defer all.tok.Close()
	shared := all.shared
	longest := 0
	for _, ids := range all.whole {
		longest = max(longest, len(ids))
	}
	s, err := f.session(e, longest, opt.MaxNew)
	if err != nil {
		return err
	}
	bar := watch(s, stderr, len(shared), e.Layers)
	if len(shared) > 0 {
		// Nobody needs the logits, but with one row of them numbers that are not finite end it here.
		err = s.Logits(ctx, shared, []int{len(shared) - 1}, func(int, []float32) error { return nil })
	}
	bar.close()
	if err != nil {
		return err
	}
	prefill, dens := time.Since(start).Seconds(), densitiesOf(s.Density())
	s.OnProgress(nil)
	s.CompareUnpermuted = false
	if !f.json {
		fmt.Fprintf(stderr, "document: %d tokens prefilled in %.2f s · attention %s, density %.3f\n", len(shared), prefill, methodsUsed(e.method, e.methods).text(), dens.Density)
		if f.stats {
			dens.print(stderr)
		}
	}
	opt.Before = shared
	for i, question := range questions {
		r := questionResult{Question: question, CachedTokens: len(shared), DocumentSeconds: prefill, result: f.newResult(e, opt.Seed)}
		r.PromptTokens, r.densities = len(all.whole[i]), dens
		if !f.json {
			fmt.Fprintf(stdout, "Question: %s\nAnswer:  ", question)
		}
		s.Truncate(len(shared))
		err := f.decode(ctx, e, s, all.whole[i][len(shared):], opt, &r.result, time.Now(), newAnswer(all.tok, f.stop, stdout, f.json), func() {})
		if err != nil && r.FinishReason != "interrupted" {
			return err
		}
		r.QuestionDensity = densitiesOf(s.Density()).Density
		if err := errors.Join(err, r.write(f.json, stdout, stderr)); err != nil {
			return err
		}
	}
	return nil
}

// prompts are those of all questions.
type prompts struct {
	tok    *tokenizer.Tokenizer
	whole  [][]int32
	shared []int32 // what all begin with
}

// prompts renders every question's prompt and finds the tokens that they begin with, which are those of the document alone,
// but for what merges with a question. At least one token of each prompt is left to run.
func (f *generateFlags) prompts(e *engine, document string, questions []string) (p prompts, err error) {
	if p.tok, err = e.tokenizer(); err != nil {
		return p, err
	}
	for _, q := range append([]string{""}, questions...) {
		in := input{parseSpecial: f.input.parseSpecial}
		f.input.fill(&in, ask(document, q))
		ids, err := in.encode(p.tok)
		if err != nil {
			p.tok.Close()
			return p, err
		}
		if q == "" {
			p.shared = ids
			continue
		}
		p.shared = p.shared[:min(commonPrefix(p.shared, ids), len(ids)-1)]
		p.whole = append(p.whole, ids)
	}
	return p, nil
}

func commonPrefix(a, b []int32) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// write shows one question's answer.
func (r *questionResult) write(asJSON bool, stdout, stderr io.Writer) error {
	if asJSON {
		return json.NewEncoder(stdout).Encode(r)
	}
	if _, err := fmt.Fprintln(stdout); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "first token after %.3f s (%d new prompt tokens) · %d new tokens (%.1f tokens/s) · %s\n\n",
		r.TTFT, r.PromptTokens-r.CachedTokens, len(r.OutputIDs), r.DecodeRate, r.FinishReason)
	return nil
}
