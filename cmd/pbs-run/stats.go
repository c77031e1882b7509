package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pbs-run/pbs-run/model"
)

// densities are the shares of causal attention that a prefill computed, as JSON shows them. Unpermuted ones are what the same
// queries and keys would have given with the keys in order; they are there with --stats.
type densities struct {
	Density            float64     `json:"density"`
	PerLayer           []float64   `json:"density_per_layer"`
	PerHead            [][]float64 `json:"density_per_head"` // [layers][heads]
	Unpermuted         *float64    `json:"density_unpermuted,omitempty"`
	UnpermutedPerLayer []float64   `json:"density_unpermuted_per_layer,omitempty"`
	UnpermutedPerHead  [][]float64 `json:"density_unpermuted_per_head,omitempty"`
	methods            []string    // by layer
}

// densitiesOf copies a session's densities. Where no layer was selected a second time, the unpermuted ones stay away.
func densitiesOf(layers []model.Density) densities {
	d, unpermuted, some := densities{}, 0.0, false
	for _, l := range layers {
		d.methods = append(d.methods, l.Method)
		d.PerLayer = append(d.PerLayer, l.Mean())
		d.PerHead = append(d.PerHead, slices.Clone(l.Heads))
		d.UnpermutedPerLayer = append(d.UnpermutedPerLayer, l.MeanUnpermuted())
		if heads := l.Unpermuted; heads != nil {
			some = true
			d.UnpermutedPerHead = append(d.UnpermutedPerHead, slices.Clone(heads))
		} else {
			d.UnpermutedPerHead = append(d.UnpermutedPerHead, slices.Clone(l.Heads))
		}
		d.Density += l.Mean() / float64(len(layers))
		unpermuted += l.MeanUnpermuted() / float64(len(layers))
	}
	if d.Unpermuted = &unpermuted; !some {
		d.Unpermuted, d.UnpermutedPerLayer, d.UnpermutedPerHead = nil, nil, nil
	}
	return d
}

// print shows the densities as a table of layers and heads.
func (d densities) print(to io.Writer) {
	fmt.Fprintln(to, "\ndensity: share of the causal blocks that was computed; in order: the same without permutation")
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "layer\tmethod\tmean\tin order\tleast (head)\tmost (head)\tby head")
	for i, heads := range d.PerHead {
		method, _, _ := strings.Cut(d.methods[i], ":")
		inOrder := "-"
		if d.UnpermutedPerLayer != nil {
			inOrder = fmt.Sprintf("%.3f", d.UnpermutedPerLayer[i])
		}
		least, most := slices.Index(heads, slices.Min(heads)), slices.Index(heads, slices.Max(heads))
		var list strings.Builder
		for _, h := range heads {
			fmt.Fprintf(&list, "%.2f ", h)
		}
		fmt.Fprintf(w, "%d\t%s\t%.3f\t%s\t%.3f (%d)\t%.3f (%d)\t%s\n", i, method, d.PerLayer[i], inOrder, heads[least], least, heads[most], most, strings.TrimSpace(list.String()))
	}
	_ = w.Flush() // a table for people; what matters went to standard output
}
