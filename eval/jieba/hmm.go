package jieba

// The states of a character in a word: it begins one, ends one, stands in the middle, or is a word alone. They are
// in the order of their letters in jieba, which breaks ties.
const (
	begin = iota
	end
	middle
	single
	states
)

// before lists which two states may stand before each, the one that wins a tie first.
func before(state int) (int, int) {
	switch state {
	case begin:
		return single, end
	case end:
		return middle, begin
	case middle:
		return middle, begin
	default:
		return single, end
	}
}

// missing is jieba's logarithm of the probability of what its tables do not have.
const missing = -3.14e100

// unknown cuts characters i up to j, which are no dictionary word: Chinese ones by the hidden Markov model, Latin ones
// into numbers, words and what is between.
func (c *cutter) unknown(i, j int) {
	for i < j {
		k := i + 1
		for k < j && han(c.chars[k]) == han(c.chars[i]) {
			k++
		}
		if han(c.chars[i]) {
			c.viterbi(i, k)
		} else {
			c.latin(i, k)
		}
		i = k
	}
}

// viterbi cuts Chinese characters i up to j along the likeliest sequence of states.
func (c *cutter) viterbi(i, j int) {
	chars := c.chars[i:j]
	from := make([][states]uint8, len(chars)) // the state before, on the best way to each state
	var v [states]float64
	emit := c.emission(chars[0])
	for s := range v {
		v[s] = c.t.start[s] + emit[s]
	}
	for k := 1; k < len(chars); k++ {
		emit = c.emission(chars[k])
		var next [states]float64
		for s := range next {
			first, second := before(s)
			a := v[first] + c.t.trans[first][s] + emit[s]
			b := v[second] + c.t.trans[second][s] + emit[s]
			if b > a {
				a, first = b, second
			}
			next[s], from[k][s] = a, uint8(first)
		}
		v = next
	}
	path := make([]int, len(chars))
	path[len(path)-1] = single
	if v[end] > v[single] {
		path[len(path)-1] = end
	}
	for k := len(path) - 1; k > 0; k-- {
		path[k-1] = int(from[k][path[k]])
	}
	start, done := 0, 0
	for k, s := range path {
		switch s {
		case begin:
			start = k
			continue
		case middle:
			continue
		case single:
			start = k
		}
		c.emit(i+start, i+k+1)
		done = k + 1
	}
	if done < len(path) {
		c.emit(i+done, j)
	}
}

func (c *cutter) emission(char rune) [states]float64 {
	if p, ok := c.t.emit[char]; ok {
		return p
	}
	return [states]float64{missing, missing, missing, missing}
}

// latin cuts characters i up to j, none of them Chinese: each letter or digit run with a decimal part and a percent
// sign behind it is a word, and so is all that stands between two of them.
func (c *cutter) latin(i, j int) {
	for i < j {
		k := i
		for k < j && !alphanumeric(c.chars[k]) {
			k++
		}
		if k > i {
			c.emit(i, k)
		}
		i = k
		for k < j && alphanumeric(c.chars[k]) {
			k++
		}
		if k == i {
			return
		}
		if k+1 < j && c.chars[k] == '.' && digit(c.chars[k+1]) {
			for k++; k < j && digit(c.chars[k]); {
				k++
			}
		}
		if k < j && c.chars[k] == '%' {
			k++
		}
		c.emit(i, k)
		i = k
	}
}

func digit(c rune) bool { return '0' <= c && c <= '9' }
