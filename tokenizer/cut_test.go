package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// alphabet has characters of every class the splitting regexes tell apart, the parts of
// added tokens, and what normalisation changes.
var alphabet = strings.Split("a b Z e s t re 's 'LL ' ' 0 7 9 ½ ٣ \n \r \r\n \t \u00a0 \u3000 \x00 \x1c ! ? <|eot_id|> <|im_end|> <tool_call> <| |> < > é e\u0301 你 好 ， 。 ア 🙂 \u200d \U000F0000 \U000F0001", " ")

// randomText joins n entries of the alphabet, often the same one many times over.
func randomText(rng *rand.Rand, n int) string {
	var b strings.Builder
	for n > 0 {
		entry := alphabet[rng.IntN(len(alphabet))]
		if entry == "" || rng.IntN(4) == 0 {
			entry = " "
		}
		times := 1
		if rng.IntN(3) == 0 {
			times = 1 + rng.IntN(12)
		}
		b.WriteString(strings.Repeat(entry, times))
		n -= times
	}
	return b.String()
}

// A text that is cut, however finely, must give the ids of the text in one piece.
func TestCutTextsEncodeAlike(t *testing.T) {
	for _, family := range families {
		t.Run(family, func(t *testing.T) { checkCuts(t, load(t, family), 7) })
	}
}

// GPT-2's regex is ByteLevel's own.
func TestCutTextsEncodeAlikeGPT2(t *testing.T) {
	tok := loadEdited(t, "llama3", func(top map[string]any) {
		top["pre_tokenizer"] = map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	})
	if tok.spec.pattern != patternGPT2 || !tok.spec.cuttable() {
		t.Fatalf("pattern %q", tok.spec.pattern)
	}
	checkCuts(t, tok, 8)
}

func checkCuts(t *testing.T, tok *Tokenizer, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, seed))
	cuts := 0
	for i := range 3000 {
		text := strings.ReplaceAll(randomText(rng, 10+rng.IntN(120)), "\x00", "\x01")
		want, err := tok.engine.encode(text)
		if err != nil {
			t.Fatal(err)
		}
		tok.limits = limits{piece: 1 + rng.IntN(40), word: rng.IntN(30)}
		got, err := tok.encodeLong(tok.engine, text)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%d, limits %v: %q = %v, %v, want %v", i, tok.limits, text, got, err, want)
		}
		if tok.pieceEnd(text) < len(text) {
			cuts++
		}
	}
	if cuts < 1500 {
		t.Errorf("only %d of 3000 texts were cut", cuts)
	}
}

// Fault 20: one line of spaces, letters or punctuation longer than the library's regex
// engine takes must encode, in time that grows with its length, and decode to itself.
func TestLongLines(t *testing.T) {
	tok := load(t, "llama3")
	for _, unit := range []string{" ", "a", "!", "\n", "9", "\x00", "ab cd ", "<|eot_id|>", "你"} {
		t.Run(fmt.Sprintf("%q", unit), func(t *testing.T) {
			text := strings.Repeat(unit, 1_200_000/len(unit))
			ids, err := tok.Encode(text, EncodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			back, err := tok.Decode(ids, false)
			if err != nil || back != text {
				t.Errorf("%d bytes came back as %d, %v", len(text), len(back), err)
			}
		})
	}
}

// The library panics on a run of more than ten million spaces; here it must not see one.
func TestTwelveMillionSpaces(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	tok := load(t, "llama3")
	ids, err := tok.Encode(strings.Repeat(" ", 12_000_000)+"x", EncodeOptions{})
	if err != nil || len(ids) < 1_000_000 {
		t.Errorf("%d ids, %v", len(ids), err)
	}
}
