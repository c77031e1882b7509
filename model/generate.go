package model

import (
	"context"
	"iter"
	"math"
	"slices"
)

// Options of one generation.
type Options struct {
	Sampling
	MaxNew    int
	MinNew    int // tokens before which no stop token may come
	IgnoreEOS bool
	Stop      []int32 // more tokens that end the answer, as EOS does
	Before    []int32 // tokens in the cache that the repetition penalty counts as seen
}

// Generate appends prompt to the sequence and yields the tokens that follow it, at most opt.MaxNew, a stop token (EOS or
// one of opt.Stop) last and included. An error ends the sequence. The cache then holds the prompt and all tokens but the last one yielded.
func (s *Session) Generate(ctx context.Context, prompt []int32, opt Options) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		defer s.interruptible(ctx)()
		sampler := NewSampler(opt.Sampling, s.m.Vocab)
		sampler.See(opt.Before...)
		ids, step := prompt, make([]int32, 1)
		var next int32
		n := 0
		visit := func(_ int, logits []float32) error {
			sampler.See(ids...)
			if n < opt.MinNew {
				s.m.forbid(logits, opt.Stop)
			}
			next = sampler.Next(logits)
			return nil
		}
		for n = range opt.MaxNew {
			s.last[0] = len(ids) - 1
			if err := s.logitsOf(ctx, ids, s.last, visit); err != nil {
				yield(0, err)
				return
			}
			if !yield(next, nil) || !opt.IgnoreEOS && s.m.IsEOS(next) || slices.Contains(opt.Stop, next) {
				return
			}
			step[0] = next
			ids = step
		}
	}
}

// IsEOS reports whether id ends an answer.
func (c *Config) IsEOS(id int32) bool { return slices.Contains(c.EOS, id) }

// forbid makes it impossible that a stop token is drawn.
func (c *Config) forbid(logits []float32, stop []int32) {
	for _, id := range slices.Concat(c.EOS, stop) {
		if int(id) < len(logits) {
			logits[id] = float32(math.Inf(-1))
		}
	}
}
