package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/daulet/tokenizers"
)

// The tokenizers library takes C strings, which end at the first NUL, and it recognises
// added tokens wherever their text stands. Both are solved by stand-ins: characters of a
// private-use plane that the text does not hold are sent in place of NUL, and in place of
// the first character of every stretch that must not become an added token. The library's
// own normaliser turns them back before it splits and merges, and it looks for added tokens
// before it normalises, so the ids are exactly those of the text itself. An engine with
// such a normaliser is built when it is first needed.

const firstStandIn, lastStandIn = rune(0xF0000), rune(0xFFFFD)

// engine is one instance of the Rust library. It may be used by many goroutines.
type engine struct {
	rust         *tokenizers.Tokenizer
	firstStandIn rune // of a masked engine
}

// newEngine loads a checked tokenizer.json with some of its fields replaced.
func newEngine(s *spec, replace map[string]any) (*engine, error) {
	var b strings.Builder
	b.WriteByte('{')
	for _, m := range s.top {
		if _, ok := replace[m.key]; ok {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		key, _ := json.Marshal(m.key)
		b.Write(key)
		b.WriteByte(':')
		b.Write(m.value)
	}
	for key, value := range replace {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, `,%q:%s`, key, data)
	}
	b.WriteByte('}')
	rust, err := tokenizers.FromBytes([]byte(b.String()))
	if err != nil {
		return nil, err
	}
	return &engine{rust: rust}, nil
}

// encode returns the ids of a text without NUL, special tokens around it left out.
func (e *engine) encode(text string) ([]int32, error) {
	if text == "" {
		return nil, nil
	}
	found, err := e.rust.EncodeWithOptionsErr(text, false)
	if err != nil {
		return nil, fmt.Errorf("encode text of %d bytes: %w (a regex of pre_tokenizer that gives up?)", len(text), err)
	}
	ids := make([]int32, len(found.IDs))
	for i, id := range found.IDs {
		ids[i] = int32(id)
	}
	return ids, nil
}

// loadOptions are replaced in every engine: a text is never cut or padded silently.
func loadOptions() map[string]any {
	return map[string]any{"truncation": nil, "padding": nil}
}

// standIns are the characters that an engine turns back: stand-in i is for originals[i].
type standIns struct {
	first     rune
	originals []rune // NUL, then the first characters of added tokens
}

// of returns the stand-in of r.
func (s standIns) of(r rune) rune {
	for i, original := range s.originals {
		if original == r {
			return s.first + rune(i)
		}
	}
	panic(fmt.Sprintf("tokenizer: no stand-in for %q", r))
}

// restore turns stand-ins back.
func (s standIns) restore(text string) string {
	return strings.Map(func(r rune) rune {
		if i := int(r - s.first); 0 <= i && i < len(s.originals) {
			return s.originals[i]
		}
		return r
	}, text)
}

// originals lists the characters that may need a stand-in.
func (t *Tokenizer) originals() []rune {
	originals := []rune{0}
	seen := map[rune]bool{0: true}
	for _, a := range t.spec.added {
		r, _ := utf8.DecodeRuneInString(a.Content)
		if !seen[r] {
			seen[r] = true
			originals = append(originals, r)
		}
	}
	return originals
}

// freeStandIns picks stand-ins that none of the texts holds.
func (t *Tokenizer) freeStandIns(texts ...string) (standIns, error) {
	var taken [lastStandIn - firstStandIn + 1]bool
	for _, text := range texts {
		for _, r := range text {
			if firstStandIn <= r && r <= lastStandIn {
				taken[r-firstStandIn] = true
			}
		}
	}
	s := standIns{first: firstStandIn, originals: t.originals()}
	free := 0 // in a row
	for i, used := range taken {
		if free++; used {
			free = 0
		}
		if free == len(s.originals) {
			s.first = firstStandIn + rune(i-free+1)
			return s, nil
		}
	}
	return s, errors.New("encode text: it holds too many private-use characters (U+F0000 to U+FFFFD) to leave some free")
}

// masked returns an engine that turns the stand-ins back, from the last call if it had the
// same ones.
func (t *Tokenizer) masked(s standIns) (*engine, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.maskedEngine != nil && t.maskedEngine.firstStandIn == s.first {
		return t.maskedEngine, nil
	}
	var steps []any
	for i, r := range s.originals {
		steps = append(steps, map[string]any{
			"type":    "Replace",
			"pattern": map[string]string{"String": string(s.first + rune(i))},
			"content": string(r),
		})
	}
	options := loadOptions()
	for _, m := range t.spec.top {
		if m.key == "normalizer" && !isNull(m.value) {
			steps = append(steps, m.value)
		}
	}
	options["normalizer"] = map[string]any{"type": "Sequence", "normalizers": steps}
	// Tokens that are looked for after normalisation would find the restored text.
	var added []any
	for _, a := range t.spec.added {
		added = append(added, map[string]any{
			"id": a.ID, "content": a.Content, "single_word": a.SingleWord, "lstrip": a.LStrip,
			"rstrip": a.RStrip, "normalized": false, "special": a.Special,
		})
	}
	options["added_tokens"] = orEmpty(added)
	e, err := newEngine(t.spec, options)
	if err != nil {
		return nil, err
	}
	e.firstStandIn = s.first
	t.maskedEngine = e
	return e, nil
}

func orEmpty(items []any) []any {
	if items == nil {
		return []any{}
	}
	return items
}

// mask writes a stand-in over the first character of every added token in text; at the end
// of it also over what may become one together with a text that follows.
func (t *Tokenizer) mask(text string, s standIns) string {
	var b strings.Builder
	last := 0
	for i, r := range text {
		if !t.marks[r] || !t.addedAt(text[i:]) {
			continue
		}
		b.WriteString(text[last:i])
		b.WriteRune(s.of(r))
		last = i + utf8.RuneLen(r)
	}
	b.WriteString(text[last:])
	return b.String()
}

// addedAt reports whether an added token starts with text, or text with an added token.
func (t *Tokenizer) addedAt(text string) bool {
	for _, n := range t.addedLengths {
		if n <= len(text) && t.addedSet[text[:n]] {
			return true
		}
	}
	if len(text) < t.longestAdded() {
		for token := range t.addedSet {
			if strings.HasPrefix(token, text) {
				return true
			}
		}
	}
	return false
}

// holdsAdded reports whether mask would change text.
func (t *Tokenizer) holdsAdded(text string) bool {
	for i, r := range text {
		if t.marks[r] && t.addedAt(text[i:]) {
			return true
		}
	}
	return false
}
