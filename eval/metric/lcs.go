package metric

import (
	"math"
	"math/bits"
)

// The longest common subsequence is computed in bits, 64 cells of its table at a time (H. Hyyrö, "Bit-parallel LCS-length
// computation revisited", 2004). A row of the table T[i] is kept as the set of columns j where T[i][j] == T[i][j-1]:
// that is all that walking back through the table needs, so that two texts of 10,000 words take some
// milliseconds where the table of Python's rouge takes gigabytes.

// An lcs compares sequences with one sequence y after the other. Symbols are small numbers.
type lcs struct {
	y     []int32
	last  []int32 // [symbols] the last column of y that holds the symbol, from 1; 0: none
	prev  []int32 // [len(y)] the column before with the same symbol, from 1; 0: none
	mask  []uint64
	kept  []uint64 // rows 0, block, 2*block ... of the table
	rows  []uint64 // the rows of one block
	words int      // of a row
}

func newLCS(symbols int) *lcs { return &lcs{last: make([]int32, symbols)} }

// columns sets y.
func (l *lcs) columns(y []int32) {
	for _, s := range l.y {
		l.last[s] = 0
	}
	l.y, l.prev = y, l.prev[:0]
	for j, s := range y {
		l.prev = append(l.prev, l.last[s])
		l.last[s] = int32(j + 1)
	}
	l.words = (len(y) + 63) / 64
	l.mask = append(l.mask[:0], make([]uint64, l.words)...)
}

// first appends row 0 of the table to rows: bit j of a row is 0 where the subsequence grows with y[j].
func (l *lcs) first(rows []uint64) []uint64 {
	for range l.words {
		rows = append(rows, math.MaxUint64)
	}
	return rows
}

// step makes the next row in place, for symbol s.
func (l *lcs) step(row []uint64, s int32) {
	if l.last[s] == 0 {
		return
	}
	for j := l.last[s]; j > 0; j = l.prev[j-1] {
		l.mask[(j-1)/64] |= 1 << ((j - 1) % 64)
	}
	carry := uint64(0)
	for k, v := range row {
		var sum uint64
		sum, carry = bits.Add64(v, v&l.mask[k], carry)
		row[k] = sum | v&^l.mask[k]
		l.mask[k] = 0
	}
}

// grows tells whether the subsequence is longer with y[j] than without.
func grows(row []uint64, j int) bool { return row[j/64]>>(j%64)&1 == 0 }

// length is the length of the longest common subsequence of x and y.
func (l *lcs) length(x []int32) int {
	row := l.first(nil)
	for _, s := range x {
		l.step(row, s)
	}
	n := 0
	for j := range l.y {
		if grows(row, j) {
			n++
		}
	}
	return n
}

// walk calls take with each pair of indices of one longest common subsequence of x and y, from the last to the first,
// and returns the steps of its walk. Among the longest ones it finds that of Python's package rouge, which walks back
// from the end of the table: equal symbols are taken, and else x gets shorter by one where T[i-1][j] > T[i][j-1], or y.
//
// Only every block-th row is kept; the rows between are made again when the walk gets there.
func (l *lcs) walk(x []int32, take func(i, j int)) (steps int) {
	n := l.words
	block := 1 + int(math.Sqrt(float64(len(x))))
	if len(x)*n <= 1<<12 {
		block = len(x)
	}
	row := l.first(l.rows[:0])
	l.kept = l.kept[:0]
	for i, s := range x {
		if i%block == 0 {
			l.kept = append(l.kept, row...)
			if i+block >= len(x) {
				break
			}
		}
		l.step(row, s)
	}
	for i, j := len(x), len(l.y); i > 0 && j > 0; {
		start := (i - 1) / block * block
		l.rows = append(l.rows[:0], l.kept[start/block*n:][:n]...) // T[start], T[start+1] ... T[i]
		for _, s := range x[start:i] {
			l.rows = append(l.rows, l.rows[len(l.rows)-n:]...)
			l.step(l.rows[len(l.rows)-n:], s)
		}
		for ; i > start && j > 0; steps++ {
			switch {
			case x[i-1] == l.y[j-1]:
				i, j = i-1, j-1
				take(i, j)
			case grows(l.rows[(i-start)*n:], j-1): // T[i][j-1] < T[i][j], which then is T[i-1][j]
				i--
			default:
				j--
			}
		}
	}
	return steps
}
