package model

import (
	"math"
	"slices"
	"testing"
)

func TestSamplingValidate(t *testing.T) {
	ok := Greedy()
	for _, change := range []func(*Sampling){
		func(s *Sampling) { s.Temperature = -1 },
		func(s *Sampling) { s.Temperature = math.NaN() },
		func(s *Sampling) { s.Temperature = math.Inf(1) },
		func(s *Sampling) { s.TopK = -1 },
		func(s *Sampling) { s.TopP = 0 },
		func(s *Sampling) { s.TopP = 1.1 },
		func(s *Sampling) { s.TopP = math.NaN() },
		func(s *Sampling) { s.MinP = -0.1 },
		func(s *Sampling) { s.MinP = 1.1 },
		func(s *Sampling) { s.RepetitionPenalty = 0 },
		func(s *Sampling) { s.RepetitionPenalty = math.NaN() },
	} {
		s := ok
		change(&s)
		if s.Validate() == nil {
			t.Errorf("%+v: no error", s)
		}
	}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
}

// TestSamplerDistribution draws often and compares with the probabilities of the definition.
func TestSamplerDistribution(t *testing.T) {
	logits := []float32{0, 2, -1, 1, 2.5, -3, 0.5, 1.5}
	for _, s := range []Sampling{
		{Temperature: 1, TopP: 1},
		{Temperature: 0.5, TopP: 1},
		{Temperature: 1, TopP: 1, TopK: 3},
		{Temperature: 1, TopP: 1, TopK: 100},
		{Temperature: 1, TopP: 0.7},
		{Temperature: 1.5, TopP: 0.8, TopK: 5},
		{Temperature: 1, TopP: 1, MinP: 0.3},
		{Temperature: 2, TopP: 0.9, TopK: 6, MinP: 0.4},
		{Temperature: 1, TopP: 1e-9},
	} {
		s.RepetitionPenalty, s.Seed = 1, 5
		want := distribution(logits, s)
		sampler := NewSampler(s, len(logits))
		const draws = 20000
		got := make([]float64, len(logits))
		for range draws {
			got[sampler.Next(slices.Clone(logits))] += 1.0 / draws
		}
		for id := range logits {
			if sd := math.Sqrt(want[id]*(1-want[id])/draws) + 1e-9; math.Abs(got[id]-want[id]) > 5*sd {
				t.Errorf("%+v: token %d drawn with share %.4f, want %.4f", s, id, got[id], want[id])
			}
		}
	}
}

// distribution is the definition, step by step: temperature, top-k, top-p, min-p.
func distribution(logits []float32, s Sampling) []float64 {
	p := make([]float64, len(logits))
	ids := make([]int, len(logits))
	for i, l := range logits {
		p[i], ids[i] = math.Exp(float64(l)/s.Temperature), i
	}
	slices.SortFunc(ids, func(a, b int) int {
		if p[a] > p[b] {
			return -1
		}
		return 1
	})
	if s.TopK > 0 {
		ids = ids[:min(s.TopK, len(ids))]
	}
	var sum, cum float64
	for _, id := range ids {
		sum += p[id]
	}
	n := 0
	for n < len(ids) && (n == 0 || cum < s.TopP*sum) && p[ids[n]] >= s.MinP*p[ids[0]] {
		cum += p[ids[n]]
		n++
	}
	out := make([]float64, len(logits))
	for _, id := range ids[:n] {
		out[id] = p[id] / cum
	}
	return out
}

func TestGreedyAndPenalty(t *testing.T) {
	s := NewSampler(Sampling{TopP: 1, RepetitionPenalty: 2}, 4)
	if id := s.Next([]float32{1, 3, 3, 2}); id != 1 {
		t.Errorf("greedy took %d, want the lowest of the best, 1", id)
	}
	s.See(1)
	logits := []float32{1, 3, -3, 2}
	if id := s.Next(logits); id != 3 || logits[1] != 1.5 {
		t.Errorf("penalised: took %d with logits %v, want 3 and 1.5 for token 1", id, logits)
	}
	s.See(2)
	if s.Next(logits); logits[2] != -6 {
		t.Errorf("penalised negative logit is %g, want -6", logits[2])
	}
}

func TestSamplerAllocates(t *testing.T) {
	s := NewSampler(Sampling{Temperature: 1, TopP: 0.9, TopK: 40, RepetitionPenalty: 1.1}, 1000)
	logits := make([]float32, 1000)
	if n := testing.AllocsPerRun(10, func() { s.Next(logits) }); n != 0 {
		t.Errorf("a draw allocates %v times", n)
	}
}
