package model

import (
	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
)

// spans are the rows that a layer computes: outputs for some, queries for those or, where the method is sparse, for all,
// and nothing but K and V for the rest.
type spans struct {
	outputs, queries, rest []kernels.Span
}

// spansOf fills s.spans for n rows. In the last layer only the wanted rows have a use for outputs.
func (s *Session) spansOf(method attention.Method, first, n int, want []int, last bool) *spans {
	sp := &s.spans
	sp.outputs, sp.rest = sp.outputs[:0], sp.rest[:0]
	if last {
		sp.outputs = runs(sp.outputs, want)
	} else {
		sp.outputs = append(sp.outputs, kernels.Span{Lo: 0, Hi: n})
	}
	sp.queries = attention.Queries(sp.queries[:0], method, first, n, sp.outputs)
	lo := 0
	for _, q := range sp.queries {
		if q.Lo > lo {
			sp.rest = append(sp.rest, kernels.Span{Lo: lo, Hi: q.Lo})
		}
		lo = q.Hi
	}
	if lo < n {
		sp.rest = append(sp.rest, kernels.Span{Lo: lo, Hi: n})
	}
	return sp
}

// runs appends to buf the spans that ascending rows form.
func runs(buf []kernels.Span, rows []int) []kernels.Span {
	for _, r := range rows {
		if n := len(buf); n > 0 && buf[n-1].Hi == r {
			buf[n-1].Hi++
			continue
		}
		buf = append(buf, kernels.Span{Lo: r, Hi: r + 1})
	}
	return buf
}

// tiles cuts spans into pieces of at most tileRows rows.
func tiles(spans []kernels.Span) func(yield func(kernels.Span) bool) {
	return func(yield func(kernels.Span) bool) {
		for _, sp := range spans {
			for lo := sp.Lo; lo < sp.Hi; lo += tileRows {
				if !yield(kernels.Span{Lo: lo, Hi: min(lo+tileRows, sp.Hi)}) {
					return
				}
			}
		}
	}
}
