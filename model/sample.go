package model

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Sampling says how the next token is drawn. The zero Temperature is greedy decoding: the likeliest token, after the
// repetition penalty, the lowest id among equals.
type Sampling struct {
	Temperature       float64
	TopK              int     // keep the K likeliest; 0 keeps all
	TopP              float64 // keep the fewest whose probabilities sum to P (arXiv 1904.09751); 1 keeps all
	MinP              float64 // keep those with at least MinP times the best one's probability (arXiv 2407.01082); 0 keeps all
	RepetitionPenalty float64 // divides positive, multiplies negative logits of tokens seen (arXiv 1909.05858); 1 is off
	Seed              uint64
}

// Greedy takes the likeliest token.
func Greedy() Sampling { return Sampling{TopP: 1, RepetitionPenalty: 1} }

// Validate checks every field's range.
func (s Sampling) Validate() error {
	switch {
	case !(s.Temperature >= 0 && s.Temperature <= 100):
		return fmt.Errorf("temperature %g: want 0 to 100", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("top_k %d: want 0 (all) or more", s.TopK)
	case !(s.TopP > 0 && s.TopP <= 1):
		return fmt.Errorf("top_p %g: want above 0, at most 1", s.TopP)
	case !(s.MinP >= 0 && s.MinP <= 1):
		return fmt.Errorf("min_p %g: want 0 to 1", s.MinP)
	case !(s.RepetitionPenalty > 0 && s.RepetitionPenalty <= 100):
		return fmt.Errorf("repetition_penalty %g: want above 0, at most 100", s.RepetitionPenalty)
	}
	return nil
}

// Sampler draws tokens. It allocates once, for the vocabulary.
type Sampler struct {
	Sampling
	rng   *rand.Rand
	seen  []bool // by token id
	order candidates
}

// NewSampler makes a Sampler over vocab tokens whose draws depend on s.Seed alone.
func NewSampler(s Sampling, vocab int) *Sampler {
	return &Sampler{
		Sampling: s,
		rng:      rand.New(rand.NewPCG(s.Seed, 0x9e3779b97f4a7c15)),
		seen:     make([]bool, vocab),
		order:    make(candidates, vocab),
	}
}

// See makes ids subject to the repetition penalty; Hugging Face counts the prompt as well as the answer.
func (s *Sampler) See(ids ...int32) {
	for _, id := range ids {
		s.seen[id] = true
	}
}

// Next draws a token from logits, which it overwrites. The order of the steps is that of Hugging Face: repetition penalty,
// temperature, top-k, top-p, min-p.
func (s *Sampler) Next(logits []float32) int32 {
	if p := float32(s.RepetitionPenalty); p != 1 {
		for id, seen := range s.seen {
			if seen && logits[id] > 0 {
				logits[id] /= p
			} else if seen {
				logits[id] *= p
			}
		}
	}
	best := 0
	for id, l := range logits {
		if l > logits[best] {
			best = id
		}
	}
	if s.Temperature == 0 {
		return int32(best)
	}
	return s.draw(logits, float64(logits[best]))
}

// draw orders the candidates as far as top-k, top-p and min-p need, then draws among those they leave.
func (s *Sampler) draw(logits []float32, best float64) int32 {
	var total float64
	for id, l := range logits {
		w := math.Exp((float64(l) - best) / s.Temperature) // 1 for the best
		s.order[id] = candidate{int32(id), w}
		total += w
	}
	if s.TopK == 0 && s.TopP == 1 && s.MinP == 0 {
		return s.pick(s.order, total)
	}
	h, k := s.order, len(s.order)
	if s.TopK > 0 && s.TopK < k {
		k = s.TopK
		total = math.Inf(1) // not known before the K best are out
	}
	h.init()
	var sum float64
	kept := 0
	for kept < k && sum < s.TopP*total && h[0].weight >= s.MinP {
		sum += h[0].weight
		h = h.popToEnd()
		kept++
	}
	likeliest := s.order[len(h):] // the kept ones, least likely first
	if math.IsInf(total, 1) {     // top-p is a share of what top-k left
		var nucleus float64
		n := 0
		for nucleus < s.TopP*sum && n < kept {
			n++
			nucleus += likeliest[kept-n].weight
		}
		likeliest, sum = likeliest[kept-n:], nucleus
	}
	return s.pick(likeliest, sum)
}

// pick draws one of c in proportion to its weight; total is the sum of the weights.
func (s *Sampler) pick(c candidates, total float64) int32 {
	u := s.rng.Float64() * total
	for i := len(c) - 1; i > 0; i-- {
		if u -= c[i].weight; u < 0 {
			return c[i].id
		}
	}
	return c[0].id
}

type candidate struct {
	id     int32
	weight float64
}

// candidates is a binary heap with the heaviest first (the lowest id among equals). The standard library's boxes every element.
type candidates []candidate

func (h candidates) before(i, j int) bool {
	return h[i].weight > h[j].weight || h[i].weight == h[j].weight && h[i].id < h[j].id
}

func (h candidates) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h candidates) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h.before(child+1, child) {
			child++
		}
		if !h.before(child, i) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// popToEnd moves the heaviest behind the heap it returns.
func (h candidates) popToEnd() candidates {
	end := len(h) - 1
	h[0], h[end] = h[end], h[0]
	h = h[:end]
	h.down(0)
	return h
}
