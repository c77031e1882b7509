// Package attention holds the methods by which a prefill attends: recipes over the operations of a kernels.Device.
package attention

import (
	"fmt"

	"github.com/pbs-run/pbs-run/kernels"
)

// Method chooses which keys each block of queries attends to in one layer's prefill. Methods are values: what they work out
// stands in a kernels.Plan. Prefill runs one.
type Method interface {
	// Layout is what has to be known before there are queries and keys.
	Layout() Layout

	// Choose fills p, which stands at the queries at hand, from all of them, q [rows, heads·headDim], and the keys of kv. It is
	// called where Layout is not Dense.
	Choose(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV)

	// String is the spec that Parse accepts, with all settings.
	String() string
}

// Layout is a method's geometry, in tokens.
type Layout struct {
	Block   int  // queries and keys of a block; 0 for a method that chooses nothing and is always dense
	Segment int  // a multiple of Block: keys are reordered inside segments
	Stride  int  // of antidiagonals; 0 where blocks are not scored along them
	Lines   bool // the plan holds single columns and diagonals too
	Least   int  // attention is dense up to so many keys
}

// Dense reports whether rows queries that stand at positions first.. attend to every key: where there are few keys, or no more
// than a block of queries over a cache.
func (l Layout) Dense(first, rows int) bool {
	return l.Block == 0 || first+rows <= l.Least || rows <= l.Block && first > 0
}

// Shape completes the shape of a session's plan; Block stays 0 where none is needed.
func (l Layout) Shape(s kernels.PlanShape) kernels.PlanShape {
	s.Block, s.Segment, s.Stride, s.Lines = l.Block, l.Segment, l.Stride, l.Lines
	return s
}

// Parse reads a method spec: its name, and after a colon its settings as key=value separated by commas. What is not given
// keeps its default. An unknown name or setting is an error, never another method.
func Parse(spec string) (Method, error) {
	s, err := parseSettings(spec)
	if err != nil {
		return nil, err
	}
	var m Method
	switch s.name {
	case "full":
		m = Full{}
	case "pbs":
		m = s.pbs()
	case "pbs+":
		m = s.pbsPlus()
	case "meanpool":
		m = s.meanPool()
	case "xattention":
		m = s.xattention()
	case "flexprefill":
		m = s.flexPrefill()
	case "minference":
		m = s.minference()
	default:
		return nil, fmt.Errorf("attention %q: unknown method %q; want full, pbs, pbs+, meanpool, xattention, flexprefill or minference", spec, s.name)
	}
	return m, s.finish()
}
