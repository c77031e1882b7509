package model

import (
	"encoding/binary"
	"slices"

	"github.com/pbs-run/pbs-run/kernels"
)

// Density is how much of its causal attention a layer computed in the last prefill.
type Density struct {
	Method string    // spec of the method, "full" where it fell back to dense attention
	Heads  []float64 // kept causal blocks over all causal blocks, by query head; 1 for dense attention
	// Unpermuted is what Heads would be with the keys in their own order: of a method that reorders them, in a session with
	// CompareUnpermuted set, else nil.
	Unpermuted []float64
	// Pairs is how many pairs of a query and a key dense attention computes for the rows that the layer computed: layers count by it in
	// the density of the whole.
	Pairs int64
}

// Mean is the density over all heads.
func (d Density) Mean() float64 { return mean(d.Heads) }

// MeanUnpermuted is what Mean would be with the keys in their own order, as far as that is known.
func (d Density) MeanUnpermuted() float64 {
	if d.Unpermuted == nil {
		return d.Mean()
	}
	return mean(d.Unpermuted)
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// density collects what the plans of a forward pass kept.
type density struct {
	layers []Density
	kept   []byte // of one layer, as the device has it
}

func newDensity(layers, heads int) density {
	d := density{layers: make([]Density, layers)}
	for i := range d.layers {
		d.layers[i] = Density{Method: "full", Heads: slices.Repeat([]float64{1}, heads), Pairs: 1}
	}
	return d
}

// Density is that of every layer in the last prefill: that of the rows whose attention was computed. The next prefill
// overwrites it.
func (s *Session) Density() []Density { return s.density.layers }

// record notes what layer i kept for the query blocks that meet outputs, whose row 0 stands at position first. p is nil for dense
// attention.
func (d *density) record(dev kernels.Device, i int, method string, p *kernels.Plan, first int, outputs []kernels.Span) error {
	l := &d.layers[i]
	l.Method, l.Pairs = method, 0
	for _, s := range outputs {
		l.Pairs += int64(s.Hi-s.Lo) * int64(2*first+s.Lo+s.Hi+1) / 2
	}
	if p == nil || p.Dense {
		l.Method = "full"
		for h := range l.Heads {
			l.Heads[h] = 1
		}
		return nil
	}
	return d.count(dev, p, outputs, l.Heads)
}

// recordUnpermuted notes what layer i would keep with its keys in order; ok is false where it does not reorder them.
func (d *density) recordUnpermuted(dev kernels.Device, i int, p *kernels.Plan, outputs []kernels.Span, ok bool) error {
	l := &d.layers[i]
	if l.Unpermuted = nil; !ok {
		return nil
	}
	l.Unpermuted = make([]float64, len(l.Heads))
	return d.count(dev, p, outputs, l.Unpermuted)
}

// count sets heads to the share of causal blocks that p keeps for the query blocks that meet outputs.
func (d *density) count(dev kernels.Device, p *kernels.Plan, outputs []kernels.Span, heads []float64) error {
	if need := p.Kept.Bytes(); len(d.kept) < need {
		d.kept = make([]byte, need)
	}
	if err := dev.Download(d.kept[:p.Kept.Bytes()], p.Kept); err != nil {
		return err
	}
	for h := range heads {
		kept, all, next := 0, 0, 0
		for _, s := range outputs {
			rows := p.Blocks(s, next)
			for b := rows.Lo; b < rows.Hi; b++ {
				kept += int(binary.LittleEndian.Uint32(d.kept[4*(h*p.Kept.Stride+b):]))
				all += p.FirstBlock() + b + 1
			}
			next = rows.Hi
		}
		heads[h] = float64(kept) / float64(max(all, 1))
	}
	return nil
}
