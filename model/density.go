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
		d.layers[i] = Density{Method: "full", Heads: slices.Repeat([]float64{1}, heads)}
	}
	return d
}

// Density is that of every layer in the last prefill, over all of its query blocks: the last layer chooses for all, though it
// attends for few. The next prefill overwrites it.
func (s *Session) Density() []Density { return s.density.layers }

// record notes what layer i kept. p is nil for dense attention.
func (d *density) record(dev kernels.Device, i int, method string, p *kernels.Plan) error {
	l := &d.layers[i]
	if l.Method = method; p == nil || p.Dense {
		l.Method = "full"
		for h := range l.Heads {
			l.Heads[h] = 1
		}
		return nil
	}
	return d.count(dev, p, l.Heads)
}

// recordUnpermuted notes what layer i would keep with its keys in order; ok is false where it does not reorder them.
func (d *density) recordUnpermuted(dev kernels.Device, i int, p *kernels.Plan, ok bool) error {
	l := &d.layers[i]
	if l.Unpermuted = nil; !ok {
		return nil
	}
	l.Unpermuted = make([]float64, len(l.Heads))
	return d.count(dev, p, l.Unpermuted)
}

// count sets heads to the share of causal blocks that p keeps.
func (d *density) count(dev kernels.Device, p *kernels.Plan, heads []float64) error {
	if need := p.Kept.Bytes(); len(d.kept) < need {
		d.kept = make([]byte, need)
	}
	if err := dev.Download(d.kept[:p.Kept.Bytes()], p.Kept); err != nil {
		return err
	}
	for h := range heads {
		kept, all := 0, 0
		for b := range p.KeyBlocks() - p.FirstBlock() {
			kept += int(binary.LittleEndian.Uint32(d.kept[4*(h*p.Kept.Stride+b):]))
			all += p.FirstBlock() + b + 1
		}
		heads[h] = float64(kept) / float64(all)
	}
	return nil
}
