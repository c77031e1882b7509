package eval

import (
	"fmt"
	"regexp"
	"strconv"
)

// A Shard is one of N equal parts of a run: the items whose place in their task, divided by N, leaves I. The zero Shard
// is the whole.
type Shard struct{ I, N int }

// maxShards bounds N, so that a slip of the keyboard is found.
const maxShards = 10000

// ParseShard reads i/n, i from 0. Empty text is the whole.
func ParseShard(text string) (Shard, error) {
	if text == "" {
		return Shard{}, nil
	}
	m := regexp.MustCompile(`^([0-9]{1,5})/([0-9]{1,5})$`).FindStringSubmatch(text)
	if m != nil {
		i, _ := strconv.Atoi(m[1]) // digits, and few
		n, _ := strconv.Atoi(m[2])
		if i < n && n <= maxShards {
			return Shard{i, n}, nil
		}
	}
	return Shard{}, fmt.Errorf("--shard %q: want i/n with i from 0 to n-1, as in 0/4", text)
}

func (s Shard) String() string {
	if s.N == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.I, s.N)
}

// Folder is the name of the folder below --out that the shard's predictions go to; empty for the whole.
func (s Shard) Folder() string {
	if s.N == 0 {
		return ""
	}
	return fmt.Sprintf("shard-%d-of-%d", s.I, s.N)
}

// items are the places of the shard's items among the first limit of n; a limit of 0 takes all.
func (s Shard) items(n, limit int) []int {
	if limit > 0 {
		n = min(n, limit)
	}
	var all []int
	for i := s.I; i < n; i += max(1, s.N) {
		all = append(all, i)
	}
	return all
}
