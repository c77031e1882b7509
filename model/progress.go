package model

import "github.com/pbs-run/pbs-run/kernels"

// progress turns finished tiles into the share of a forward pass that is done. It counts multiply-adds, so that a bar moves
// evenly whether attention or the linear layers take the time.
type progress struct {
	m           *Model
	report      func(layer int, done float64)
	rows, first int
	done, all   float64
}

func (p *progress) start(rows, first int) {
	p.rows, p.first, p.done = rows, first, 0
	whole := kernels.Span{Lo: 0, Hi: rows}
	p.all = float64(p.m.Layers) * (p.qkvWork(whole) + p.attentionWork(whole) + p.mlpWork(whole))
}

func (p *progress) qkv(layer int, t kernels.Span) { p.add(layer, p.qkvWork(t)) }
func (p *progress) mlp(layer int, t kernels.Span) { p.add(layer, p.mlpWork(t)) }

func (p *progress) attention(layer int, spans []kernels.Span) {
	for _, t := range spans {
		p.add(layer, p.attentionWork(t))
	}
}

func (p *progress) qkvWork(t kernels.Span) float64 {
	return float64(t.Hi-t.Lo) * float64(p.m.Hidden*(p.m.Heads+2*p.m.KVHeads)*p.m.HeadDim)
}

// attentionWork is that of dense causal attention: row i sees first+i+1 keys.
func (p *progress) attentionWork(t kernels.Span) float64 {
	pairs := float64(t.Hi-t.Lo) * (float64(p.first) + float64(t.Lo+t.Hi+1)/2)
	return 2 * pairs * float64(p.m.Heads*p.m.HeadDim)
}

// mlpWork is that of the attention's output matrix and the MLP.
func (p *progress) mlpWork(t kernels.Span) float64 {
	return float64(t.Hi-t.Lo) * float64(p.m.Hidden*(p.m.Heads*p.m.HeadDim+3*p.m.Intermediate))
}

func (p *progress) add(layer int, work float64) {
	p.done += work
	if p.report != nil && p.rows > 1 {
		p.report(layer, min(1, p.done/p.all))
	}
}
