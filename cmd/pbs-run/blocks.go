package main

import (
	"encoding/binary"
	"io"

	"github.com/pbs-run/pbs-run/attention"
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
		if b.perm, err = onHost(dev, p.Perm); err != nil {
			return nil, err
		}
	}
	kept, err := onHost(dev, p.Kept)
	b.count(kept)
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

// count sets the densities: what plan.Kept says of the causal blocks, over all of them.
func (b *blocks) count(kept []byte) {
	for h := range b.layer.heads {
		sum, all := 0, 0
		for i := range b.queryBlocks() {
			sum += int(binary.LittleEndian.Uint32(kept[4*(h*b.plan.Kept.Stride+i):]))
			all += b.firstBlock() + i + 1
		}
		b.density = append(b.density, float64(sum)/float64(all))
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

// lines are the single keys and the distances that MInference chooses, ascending, by head.
type lines struct{ vertical, slash [][]int32 }

// linesOf downloads what p holds after a prefill by m. Where that was dense it chooses first.
func linesOf(dev kernels.Device, l *layer, m attention.MInference, p *kernels.Plan) (list lines, err error) {
	if p.Dense {
		p.Begin(l.first(), l.rows)
		m.Choose(dev, p, l.q, l.kv)
	}
	if list.vertical, err = l.bits(dev, p.Columns); err != nil {
		return lines{}, err
	}
	list.slash, err = l.bits(dev, p.Diagonals)
	return list, err
}

// bits lists those of the keys or distances whose bit is set in t [heads, words], by head.
func (l *layer) bits(dev kernels.Device, t kernels.Tensor) ([][]int32, error) {
	data, err := onHost(dev, t)
	if err != nil {
		return nil, err
	}
	list := make([][]int32, l.heads)
	for h := range list {
		for i := range l.keys {
			if data[8*h*t.Stride+i/8]>>(i%8)&1 == 1 {
				list[h] = append(list[h], int32(i))
			}
		}
	}
	return list, nil
}
