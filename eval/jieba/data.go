package jieba

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"io"
	"math"
)

// jiebaGz holds jieba's dictionary and model; make_data.py made it and describes its layout.
//
//go:embed jieba.gz
var jiebaGz []byte

// A node is one prefix of dictionary words in the trie. Its children are nodes[child] up to the next node's child.
type node struct {
	char  uint16 // the last character; no word has one beyond U+FFFF
	count uint16 // number of its count in tables.logs, 0 where no word ends
	child uint32
}

// tables is what jieba.gz holds.
type tables struct {
	nodes []node    // breadth first, the root first, one more at the end
	logs  []float64 // [counts+1] logarithm of count n; [0] is that of 1, for what is no word
	total float64   // logarithm of the sum of all counts
	start [states]float64
	trans [states][states]float64
	emit  map[rune][states]float64
}

// load reads the embedded tables. They are part of the program: where they are broken, it panics.
func load() *tables {
	z, err := gzip.NewReader(bytes.NewReader(jiebaGz))
	if err != nil {
		panic(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}
	r := reader(raw)
	t := &tables{logs: make([]float64, 1+r.varint())}
	r.floats(t.logs[1:])
	t.total = r.float()
	t.nodes = make([]node, 1+r.varint())
	r.trie(t.nodes)
	r.floats(t.start[:])
	for i := range t.trans {
		r.floats(t.trans[i][:])
	}
	n, char := r.varint(), rune(0)
	t.emit = make(map[rune][states]float64, n)
	for range n {
		var p [states]float64
		char += rune(r.varint())
		r.floats(p[:])
		t.emit[char] = p
	}
	return t
}

// reader is what is left to read.
type reader []byte

func (r *reader) varint() int {
	n, size := binary.Uvarint(*r)
	*r = (*r)[size:]
	return int(n)
}

func (r *reader) float() float64 {
	bits := binary.LittleEndian.Uint64(*r)
	*r = (*r)[8:]
	return math.Float64frombits(bits)
}

func (r *reader) floats(to []float64) {
	for i := range to {
		to[i] = r.float()
	}
}

// trie reads the nodes; the last of them is the end of the children of the one before.
func (r *reader) trie(nodes []node) {
	last := len(nodes) - 1
	child := 1
	for i := range nodes[:last] {
		nodes[i].child = uint32(child)
		child += r.varint()
	}
	nodes[last].child = uint32(child)
	for parent := range nodes[:last] { // the root's own character was written too, as 0
		if parent == 0 {
			r.varint()
		}
		char := 0
		for i := nodes[parent].child; i < nodes[parent+1].child; i++ {
			char += r.varint()
			nodes[i].char = uint16(char)
		}
	}
	for i := range nodes[:last] {
		nodes[i].count = uint16(r.varint())
	}
}

// next returns the node that char leads to from node n; false where no word goes on so.
func (t *tables) next(n uint32, char rune) (uint32, bool) {
	low, high := t.nodes[n].child, t.nodes[n+1].child
	for low < high {
		middle := (low + high) / 2
		switch c := rune(t.nodes[middle].char); {
		case c == char:
			return middle, true
		case c < char:
			low = middle + 1
		default:
			high = middle
		}
	}
	return 0, false
}

// word tells whether the characters are a word of the dictionary.
func (t *tables) word(chars []rune) bool {
	n := uint32(0)
	for _, c := range chars {
		var ok bool
		if n, ok = t.next(n, c); !ok {
			return false
		}
	}
	return t.nodes[n].count > 0
}
