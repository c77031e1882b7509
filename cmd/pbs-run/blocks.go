package main

import (
	"encoding/binary"
	"io"

	"github.com/pbs-run/pbs-run/kernels"
)

// blocks is what a method chose for a layer, in host memory.
type blocks struct {
	layer   *layer
	block   int
	plan    *kernels.Plan // nil for dense attention: every block, keys in order
	perm    []byte        // plan.Perm
	keep    []byte        // plan.Keep
	density []float64     // by head
}

// blocksOf downloads what p holds after a prefill. Dense attention has blocks of the given size.
func blocksOf(dev kernels.Device, l *layer, p *kernels.Plan, block int) (*blocks, error) {
	b := &blocks{layer: l, block: block, plan: p}
	if p != nil {
		b.block = p.Block
	}
	if p == nil || p.Dense {
		b.plan = nil
		for range l.heads {
			b.density = append(b.density, 1)
		}
		return b, nil
	}
	var err error
	if b.keep, err = onHost(dev, p.Keep); err != nil {
		return nil, err
	}
	if p.Permuted {
		b.perm, err = onHost(dev, p.Perm)
	}
	b.count()
	return b, err
}

// queryBlocks and keyBlocks are how many there are; those of the queries end with those of the keys.
func (b *blocks) keyBlocks() int   { return (b.layer.keys + b.block - 1) / b.block }
func (b *blocks) firstBlock() int  { return b.layer.first() / b.block }
func (b *blocks) queryBlocks() int { return b.keyBlocks() - b.firstBlock() }

// kept reports whether row i, counted from the first query block, keeps key block j.
func (b *blocks) kept(head, i, j int) byte {
	if b.plan == nil {
		return 1
	}
	word := (head*b.plan.Keep.Dims[1]+i)*b.plan.Keep.Stride + j/64
	return b.keep[8*word+j/8%8] >> (j % 8) & 1
}

// count sets the densities: kept causal blocks over all of them.
func (b *blocks) count() {
	for h := range b.layer.heads {
		kept, all := 0, 0
		for i := range b.queryBlocks() {
			for j := range b.firstBlock() + i + 1 {
				kept += int(b.kept(h, i, j))
			}
			all += b.firstBlock() + i + 1
		}
		b.density = append(b.density, float64(kept)/float64(all))
	}
}

// mean is the density of all heads.
func (b *blocks) mean() float64 {
	sum := 0.0
	for _, d := range b.density {
		sum += d
	}
	return sum / float64(len(b.density))
}

// writePerm writes the key at every place, [heads, keys] I32.
func (b *blocks) writePerm(w io.Writer) error {
	row := make([]int32, b.layer.keys)
	for h := range b.layer.heads {
		for i := range row {
			row[i] = int32(i)
			if b.perm != nil && i < b.plan.Sorted() {
				row[i] = int32(i/b.plan.Segment*b.plan.Segment) + int32(binary.LittleEndian.Uint16(b.perm[2*(h*b.plan.Perm.Stride+i):]))
			}
		}
		if _, err := w.Write(bytesOf(row)); err != nil {
			return err
		}
	}
	return nil
}

// writeMask writes the kept blocks, [heads, query blocks, key blocks] U8.
func (b *blocks) writeMask(w io.Writer) error {
	row := make([]byte, b.keyBlocks())
	for h := range b.layer.heads {
		for i := range b.queryBlocks() {
			for j := range row {
				row[j] = b.kept(h, i, j)
			}
			if _, err := w.Write(row); err != nil {
				return err
			}
		}
	}
	return nil
}
