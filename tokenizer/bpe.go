package tokenizer

// merger merges the letters of one long word as the library's BPE model does: the pair of
// lowest rank first, the leftmost of them first. It takes 24 bytes and more for a byte.
type merger struct {
	byByte [256]int32
	pairs  map[[2]int32]int // rank of a pair of ids
	merges []merge
}

func newMerger(s *spec) *merger {
	m := &merger{pairs: make(map[[2]int32]int, len(s.merges)), merges: s.merges}
	for b, letter := range letters() {
		m.byByte[b] = int32(s.ids[string(letter)])
	}
	for rank, pair := range s.merges {
		m.pairs[[2]int32{pair.left, pair.right}] = rank
	}
	return m
}

// merge returns the ids of a word.
func (m *merger) merge(word string) []int32 {
	n := int32(len(word))
	ids := make([]int32, n)  // of the symbol that starts at a place, -1 where none does any more
	prev := make([]int32, n) // place of the symbol before, -1
	next := make([]int32, n) // place of the symbol after, n
	var queue rankQueue
	for i := range n {
		ids[i], prev[i], next[i] = m.byByte[word[i]], i-1, i+1
	}
	push := func(at int32) {
		if at < 0 || next[at] == n {
			return
		}
		if rank, ok := m.pairs[[2]int32{ids[at], ids[next[at]]}]; ok {
			queue.push(uint64(rank)<<32 | uint64(at))
		}
	}
	for i := range n {
		push(i)
	}
	for len(queue) > 0 {
		top := queue.pop()
		at := int32(top & 0xFFFFFFFF)
		if ids[at] < 0 || next[at] == n {
			continue
		}
		// The pair there may have changed since; as in the library what counts is
		// that it still becomes the same token.
		result := m.merges[top>>32].result
		right := next[at]
		rank, ok := m.pairs[[2]int32{ids[at], ids[right]}]
		if !ok || m.merges[rank].result != result {
			continue
		}
		ids[at], ids[right] = result, -1
		next[at] = next[right]
		if next[at] < n {
			prev[next[at]] = at
		}
		push(prev[at])
		push(at)
	}
	out := ids[:0]
	for _, id := range ids {
		if id >= 0 {
			out = append(out, id)
		}
	}
	return out
}

// rankQueue is a binary heap, smallest first.
type rankQueue []uint64

func (q *rankQueue) push(key uint64) {
	h := append(*q, key)
	i := len(h) - 1
	for i > 0 && h[(i-1)/2] > key {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = key
	*q = h
}

func (q *rankQueue) pop() uint64 {
	h := *q
	top, key := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if h[child] >= key {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = key
	return top
}
