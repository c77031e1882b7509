package main

import (
	"context"
	"strings"
	"time"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/benchmark"
	"github.com/pbs-run/pbs-run/model"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// templateDate is the day that chat templates are told which ask for it: a run that goes on tomorrow must see the same
// prompts. It is the one written into Llama 3.1's template.
const templateDate = "2024-07-26"

// answerer answers evaluation prompts, each in the same session from an empty cache.
type answerer struct {
	e       *engine
	tok     *tokenizer.Tokenizer
	s       *model.Session
	now     time.Time
	newline int32 // the last token of a lone newline
}

func newAnswerer(e *engine, tok *tokenizer.Tokenizer) (*answerer, error) {
	now, err := time.Parse(time.DateOnly, templateDate)
	if err != nil {
		return nil, err
	}
	ids, err := tok.Encode("\n", tokenizer.EncodeOptions{})
	if err != nil {
		return nil, err
	}
	return &answerer{e: e, tok: tok, now: now, newline: ids[len(ids)-1]}, nil
}

// tokens are what benchmarks cut prompts with. As in the official scripts, special tokens written in a text count as such.
func (a *answerer) tokens() benchmark.Tokens {
	return benchmark.Tokens{
		Encode: func(text string) ([]int32, error) {
			return a.tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
		},
		Decode: func(ids []int32) (string, error) { return a.tok.Decode(ids, true) },
	}
}

// ids renders r: the messages through the chat template, then the start of the answer as it is.
func (a *answerer) ids(r eval.Request) ([]int32, error) {
	if r.Plain {
		return a.tok.Encode(r.User+r.Prefix, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
	}
	var messages []tokenizer.Message
	for _, m := range append(r.Before[:len(r.Before):len(r.Before)], eval.Message{Role: "user", Content: r.User}) {
		messages = append(messages, tokenizer.Message{Role: m.Role, Content: m.Content})
	}
	ids, err := a.tok.ChatIDs(messages, tokenizer.ChatOptions{
		AddGenerationPrompt: true, ParseSpecial: true, Now: func() time.Time { return a.now },
	})
	if err != nil {
		return nil, err
	}
	if r.KeepLast > 0 && len(ids) > r.KeepLast {
		ids = ids[len(ids)-r.KeepLast:]
	}
	prefix, err := a.tok.Encode(r.Prefix, tokenizer.EncodeOptions{})
	return append(ids, prefix...), err
}

func (a *answerer) render(r eval.Request) (eval.Rendering, error) {
	ids, err := a.ids(r)
	if err != nil {
		return eval.Rendering{}, err
	}
	text, err := a.tok.Decode(ids, false)
	return eval.Rendering{Text: text, Tokens: len(ids)}, err
}

// count is render for those who need the number alone.
func (a *answerer) count(p eval.Prompt) (int, error) {
	ids, err := a.ids(eval.Request{Prompt: p})
	return len(ids), err
}

// options are how the model goes on for r.
func (a *answerer) options(r eval.Request) model.Options {
	opt := model.Options{Sampling: model.Greedy(), MaxNew: r.MaxNew, MinNew: r.MinNew}
	opt.Temperature, opt.Seed = r.Temperature, r.Seed
	if r.StopNewline {
		opt.Stop = []int32{a.newline}
	}
	return opt
}

func (a *answerer) generate(ctx context.Context, r eval.Request) (eval.Output, error) {
	start := time.Now()
	ids, err := heed(ctx, func() ([]int32, error) { return a.ids(r) })
	if err != nil {
		return eval.Output{}, err
	}
	out := eval.Output{PromptTokens: len(ids)}
	var answer []int32
	a.s.Truncate(0)
	for id, err := range a.s.Generate(ctx, ids, a.options(r)) {
		if err != nil {
			return out, err
		}
		if out.NewTokens == 0 {
			out.TTFT = time.Since(start)
		}
		out.NewTokens++
		answer = append(answer, id)
	}
	if out.Text, err = a.text(answer, r.KeepSpecial); err != nil {
		return out, err
	}
	out.Total = time.Since(start)
	return out, nil
}

// text decodes an answer. With its special tokens it ends before the first that ends answers.
func (a *answerer) text(ids []int32, special bool) (string, error) {
	text, err := a.tok.Decode(ids, !special)
	if err != nil || !special {
		return text, err
	}
	for _, id := range a.e.EOS {
		stop, err := a.tok.Decode([]int32{id}, false)
		if err != nil {
			return "", err
		}
		if stop != "" {
			text, _, _ = strings.Cut(text, stop)
		}
	}
	return text, nil
}
