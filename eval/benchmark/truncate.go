package benchmark

import "fmt"

// Tokens are the two ways of the model's tokenizer.
type Tokens struct {
	Encode func(text string) ([]int32, error) // with the special tokens that the model puts around a text (BOS)
	Decode func(ids []int32) (string, error)  // special tokens left out; bytes that are no UTF-8 become U+FFFD
}

// A cut is how a benchmark shortens a prompt in its middle. All keep max/2 tokens at the start, rounded down.
type cut struct {
	oddTail bool // the end keeps what is left of max; otherwise max/2 too, so that an odd max loses a token
	joined  bool // start and end are decoded as one sequence; otherwise each alone, and the texts joined
}

// The official rules.
var (
	longBenchCut    = cut{}                            // LongBench's pred.py
	longBench2Cut   = cut{oddTail: true, joined: true} // LongBench-v2's pred.py
	infiniteCut     = cut{joined: true}                // InfiniteBench's eval_yarn_mistral.py
	infiniteChatCut = cut{oddTail: true, joined: true} // InfiniteBench's eval_utils.py, for GPT-4
)

// keep returns how many of n tokens stay at the start and at the end; everything if they are at most max.
func (c cut) keep(n, max int) (head, tail int) {
	if n <= max {
		return n, 0
	}
	head, tail = max/2, max/2
	if c.oddTail {
		tail = max - head
	}
	return head, tail
}

// middle cuts text to max tokens. A text that is short enough comes back as it is, not decoded again.
func (c cut) middle(t Tokens, text string, max int) (string, error) {
	if len(text) < max-16 { // no tokenizer makes more tokens than bytes, but for those around the text
		return text, nil
	}
	ids, err := t.Encode(text)
	if err != nil {
		return "", fmt.Errorf("tokenize prompt: %w", err)
	}
	head, tail := c.keep(len(ids), max)
	if head == len(ids) {
		return text, nil
	}
	if c.joined {
		return t.Decode(append(ids[:head:head], ids[len(ids)-tail:]...))
	}
	start, err := t.Decode(ids[:head])
	if err != nil {
		return "", err
	}
	end, err := t.Decode(ids[len(ids)-tail:])
	return start + end, err
}

// minMaxLength is the least number of tokens that a prompt may be cut to.
const minMaxLength = 2

// DefaultMaxLength is the length that LongBench cuts prompts to for a model of so many positions: of each 1,024 it
// takes 1,000, less 500 for template and answer. That makes the official table (3500 for 4k, 7500, 15500, 31500 for
// 32k) and 127500 for 128k.
func DefaultMaxLength(positions int) int { return max(minMaxLength, positions/1024*1000-500) }
