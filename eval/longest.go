package eval

import (
	"cmp"
	"slices"
)

// templateTokens is more than any chat template adds to a prompt.
const templateTokens = 256

// Longest returns how many tokens a session needs for the items that a run takes: the longest rendered prompt and its
// answer. It renders prompts from the longest text down, until none is left with more bytes than the longest has
// tokens: no tokenizer makes more tokens than bytes. Prompts that cannot be rendered are left to the run.
func Longest(tasks []Task, limit int, shard Shard, render Render) int {
	type place struct{ task, item, bytes int }
	var all []place
	for t, task := range tasks {
		for _, i := range shard.items(len(task.IDs), limit) {
			all = append(all, place{t, i, task.Bytes(i) + task.Rules.MaxNewTokens + templateTokens})
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return cmp.Compare(b.bytes, a.bytes) })
	longest := 0
	for _, p := range all {
		if p.bytes <= longest {
			break
		}
		longest = max(longest, tasks[p.task].Item(p.item).tokens(render))
	}
	return longest
}

// tokens returns how many tokens the item takes at most, 0 if it cannot be rendered.
func (item Item) tokens(render Render) int {
	r, err := item.First()
	if err != nil {
		return 0
	}
	first, err := render(r)
	if err != nil {
		return 0
	}
	n := first.Tokens + r.MaxNew
	if item.Second == nil {
		return n
	}
	second, err := item.Second("")
	if err != nil {
		return n
	}
	bare, err := render(second)
	if err != nil {
		return n
	}
	return max(n, bare.Tokens+2*r.MaxNew+second.MaxNew) // the first answer may take more tokens when it is read again
}
