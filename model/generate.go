package model

import (
	"context"
	"iter"
	"slices"
)

// Options of one generation.
type Options struct {
	Sampling
	MaxNew    int
	IgnoreEOS bool
	Before    []int32 // tokens in the cache that the repetition penalty counts as seen
}

// Generate appends prompt to the sequence and yields the tokens that follow it, at most opt.MaxNew, a stop token (EOS) last
// and included. An error ends the sequence. The cache then holds the prompt and all tokens but the last one yielded.
func (s *Session) Generate(ctx context.Context, prompt []int32, opt Options) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		defer context.AfterFunc(ctx, s.m.dev.Interrupt)()
		sampler := NewSampler(opt.Sampling, s.m.Vocab)
		sampler.See(opt.Before...)
		ids, step := prompt, make([]int32, 1)
		var next int32
		visit := func(_ int, logits []float32) error {
			sampler.See(ids...)
			next = sampler.Next(logits)
			return nil
		}
		for range opt.MaxNew {
			s.last[0] = len(ids) - 1
			if err := s.logitsOf(ctx, ids, s.last, visit); err != nil {
				yield(0, err)
				return
			}
			if !yield(next, nil) || !opt.IgnoreEOS && s.m.IsEOS(next) {
				return
			}
			step[0] = next
			ids = step
		}
	}
}

// IsEOS reports whether id ends an answer.
func (c *Config) IsEOS(id int32) bool { return slices.Contains(c.EOS, id) }
