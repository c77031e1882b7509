package attention

import (
	"fmt"
	"math"

	"github.com/pbs-run/pbs-run/kernels"
)

// minferenceBlock is the side of the blocks that stand for diagonals, that of the published kernel.
const minferenceBlock = 64

// MInference is its vertical-slash pattern (arXiv 2407.02490) for every head: attention to single columns and diagonals.
//
//	|●      |
//	|● ●    |      a vertical is one key that every query sees,
//	|●   ●  |      a slash is one distance at which every query sees a key
//	|● ●   ●|
//
// Per layer and query head, with P the causal softmax of the last L = 64 queries' scores q·k/√s over all keys:
//
//	column_j = Σ_i P_ij                distance_δ = Σ_i P_i,i-δ
//
// The columns and the distances with the largest sums are kept, the first 30 columns and the 100 nearest distances always. Every
// query block of 64 then attends to the key blocks that one of the diagonals passes through, whole, and beyond them to the
// single columns. The published kernel lays its blocks along each diagonal and not on a grid: what it computes is part of
// what is computed here.
//
// Defaults: 1000 verticals, 6096 slashes, at least 30 and 50. s is the head dimension; the published code divides by √128 whatever
// it is, and scale=128 does so. In Plan.Kept single columns count as as many blocks as they fill, rounded up.
//
// The paper also has two other patterns, and chooses among the three by a search per head; the tables for the models at
// hand name vertical-slash nearly everywhere, and the comparison in arXiv 2510.21270 uses nothing else.
//
// New queries over a cached prefix keep their positions, and the last min(64, new) of them are looked at. Where all columns or all
// distances would be kept, prefill is dense, and so are at most 64 new queries.
type MInference struct {
	Vertical, Slash int // keys and distances to keep
	Scale           int // above 0: scores are divided by its root and not by that of the head dimension
}

func (s *settings) minference() MInference {
	return MInference{
		Vertical: s.integer("vertical", 1000, 1, math.MaxInt32), Slash: s.integer("slash", 6096, 1, math.MaxInt32),
		Scale: s.integer("scale", 0, 1, math.MaxInt32),
	}
}

// String returns all settings.
func (m MInference) String() string {
	spec := fmt.Sprintf("minference:vertical=%d,slash=%d", m.Vertical, m.Slash)
	if m.Scale > 0 {
		spec += fmt.Sprintf(",scale=%d", m.Scale)
	}
	return spec
}

// Layout is dense where all columns or all distances would be kept, and has the last queries rank both.
func (m MInference) Layout() Layout {
	l := m.lines()
	return Layout{Block: minferenceBlock, Segment: minferenceBlock, Lines: true, Least: max(l.Columns, l.Diagonals)}
}

// lines is what m keeps.
func (m MInference) lines() kernels.Lines {
	return kernels.Lines{Columns: max(m.Vertical, 30), Diagonals: max(m.Slash, 50), Sink: 30, Recent: 100}
}

// Choose ranks keys and distances and selects, for all query blocks.
func (m MInference) Choose(dev kernels.Device, p *kernels.Plan, q kernels.Tensor, kv kernels.KV) {
	scale := m.Scale
	if scale == 0 {
		scale = kv.K.Cols()
	}
	dev.RankLines(p, q, kv, min(minferenceBlock, q.Rows()), float32(1/math.Sqrt(float64(scale))))
	dev.SelectLines(p, m.lines())
}
