package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The Rust library ends the process on some crafted tokenizer.json files: it panics across
// the C interface (huggingface/tokenizers#2094, #2198). So a file is checked here in full
// before the library sees it, and only what byte-level BPE tokenizers use is let through.

const (
	maxVocab = 1 << 22
	maxAdded = 1 << 14 // the library's loading time grows with the square of this
)

// spec is a checked tokenizer.json.
type spec struct {
	top    []member // the file's keys in order
	tokens []string // [vocabulary] token of each id, as written in the file
	added  []addedToken
	merges []merge // by rank

	vocab          int            // ids below this are the BPE model's
	ids            map[string]int // the BPE model's vocabulary
	pattern        string         // the regex of a single Split, "" if there is none or more than one
	prefixSpace    bool           // ByteLevel puts a space in front
	normalised     bool
	prefix, suffix []int32 // what the post-processor puts around a text
}

// merge is one BPE merge: left and right become result, ids all.
type merge struct{ left, right, result int32 }

// addedToken is one entry of added_tokens.
type addedToken struct {
	ID                                        int
	Content                                   string
	SingleWord, LStrip, RStrip, Norm, Special bool
}

// parseSpec checks a tokenizer.json. The error names the field at fault.
func parseSpec(data []byte) (*spec, error) {
	if err := scanJSON(data); err != nil {
		return nil, err
	}
	top, err := object(data)
	if err != nil {
		return nil, err
	}
	s := &spec{top: top}
	parts := byKey(top)
	for _, step := range []struct {
		field string
		check func(json.RawMessage) error
	}{
		{"version", checkVersion},
		{"model", s.model},
		{"added_tokens", s.addedTokens},
		{"normalizer", s.normalizer},
		{"pre_tokenizer", s.preTokenizer},
		{"post_processor", s.postProcessor},
		{"decoder", checkDecoder},
	} {
		if err := step.check(parts[step.field]); err != nil {
			return nil, fmt.Errorf("%s: %w", step.field, err)
		}
	}
	return s, nil
}

func checkVersion(data json.RawMessage) error {
	if !isNull(data) && string(data) != `"1.0"` {
		return fmt.Errorf(`want "1.0", have %.40s`, data)
	}
	return nil
}

// model checks the BPE model: vocabulary ids are 0, 1, 2, ... without gap or repeat, every
// byte has its letter, and merges join two tokens into a third.
func (s *spec) model(data json.RawMessage) error {
	m, err := fieldsOf(data)
	if err != nil {
		return err
	}
	kind, err := m.text("type")
	if err != nil {
		return err
	}
	if kind != "BPE" {
		return fmt.Errorf("type: %q not supported, only byte-level BPE is", kind)
	}
	for _, key := range []string{"continuing_subword_prefix", "end_of_word_suffix"} {
		if m.has(key) && string(m[key]) != `""` {
			return fmt.Errorf("%s: not supported, byte-level BPE has none", key)
		}
	}
	if m.has("dropout") {
		var p float64
		if err := json.Unmarshal(m["dropout"], &p); err != nil || p != 0 {
			return fmt.Errorf("dropout: want null or 0, have %.40s: encoding would be random", m["dropout"])
		}
	}
	for _, key := range []string{"fuse_unk", "ignore_merges"} {
		if _, err := m.flag(key); err != nil {
			return err
		}
	}
	if fallback, err := m.flag("byte_fallback"); err != nil {
		return err
	} else if fallback {
		return fmt.Errorf("byte_fallback: not supported, only byte-level BPE is")
	}
	if err := s.vocabulary(m["vocab"]); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	if m.has("unk_token") {
		unk, err := m.text("unk_token")
		if err != nil {
			return err
		}
		if _, ok := s.ids[unk]; !ok {
			return fmt.Errorf("unk_token: %q is not in the vocabulary", unk)
		}
	}
	return s.mergeList(m["merges"])
}

func (s *spec) vocabulary(data json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(orNull(data)))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("want an object, have %s", kind(data))
	}
	s.ids = map[string]int{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		value, err := dec.Token()
		if err != nil {
			return err
		}
		token := key.(string)
		number, _ := value.(json.Number)
		id, err := number.Int64()
		if err != nil || id < 0 || id >= maxVocab {
			return fmt.Errorf("%q: id %v is not a whole number from 0 to %d", token, value, maxVocab-1)
		}
		if token == "" {
			return fmt.Errorf("id %d: empty token", id)
		}
		if _, twice := s.ids[token]; twice {
			return fmt.Errorf("token %q comes twice", token)
		}
		s.ids[token] = int(id)
	}
	s.vocab = len(s.ids)
	s.tokens = make([]string, s.vocab)
	for token, id := range s.ids {
		if id >= s.vocab {
			return fmt.Errorf("%q: id %d with only %d tokens: ids must run from 0 without a gap", token, id, s.vocab)
		}
		if s.tokens[id] != "" {
			return fmt.Errorf("%q and %q: both have id %d", min(token, s.tokens[id]), max(token, s.tokens[id]), id)
		}
		s.tokens[id] = token
	}
	for b, letter := range letters() {
		if _, ok := s.ids[string(letter)]; !ok {
			return fmt.Errorf("no token for byte 0x%02X (%q): only byte-level BPE is supported", b, letter)
		}
	}
	return nil
}

// mergeList reads merges in either form: ["a b", ...] or [["a", "b"], ...].
func (s *spec) mergeList(data json.RawMessage) error {
	var pairs [][]string
	if err := json.Unmarshal(orNull(data), &pairs); err != nil {
		var lines []string
		if err := json.Unmarshal(data, &lines); err != nil {
			return fmt.Errorf(`merges: %w: want ["a b", ...] or [["a", "b"], ...]`, err)
		}
		pairs = nil
		for _, line := range lines {
			pairs = append(pairs, strings.Split(line, " "))
		}
	}
	if isNull(data) {
		return errors.New("merges: missing")
	}
	s.merges = make([]merge, 0, len(pairs))
	for i, pair := range pairs {
		if len(pair) != 2 || pair[0] == "" || pair[1] == "" {
			return fmt.Errorf("merges[%d]: %.80q is not a pair of tokens", i, pair)
		}
		left, okLeft := s.ids[pair[0]]
		right, okRight := s.ids[pair[1]]
		result, okResult := s.ids[pair[0]+pair[1]]
		if !okLeft || !okRight || !okResult {
			return fmt.Errorf("merges[%d]: %.80q and %.80q must be in the vocabulary, alone and joined", i, pair[0], pair[1])
		}
		s.merges = append(s.merges, merge{int32(left), int32(right), int32(result)})
	}
	return nil
}

// addedTokens checks that the ids in the file are those the library will give: it ignores
// the file's and numbers on from the vocabulary.
func (s *spec) addedTokens(data json.RawMessage) error {
	if isNull(data) {
		return nil
	}
	items, err := list(data)
	if err != nil {
		return err
	}
	if len(items) > maxAdded {
		return fmt.Errorf("%d entries, more than the %d supported", len(items), maxAdded)
	}
	seen := map[string]bool{}
	next := s.vocab
	for i, item := range items {
		a, err := parseAdded(item)
		if err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		if seen[a.Content] {
			return fmt.Errorf("[%d]: token %q comes twice", i, a.Content)
		}
		seen[a.Content] = true
		id, inVocab := s.ids[a.Content]
		if !inVocab {
			id = next
			next++
			s.tokens = append(s.tokens, a.Content)
		}
		if a.ID != id {
			return fmt.Errorf("[%d]: token %q has id %d where %d belongs: ids must follow the vocabulary without a gap", i, a.Content, a.ID, id)
		}
		s.added = append(s.added, a)
	}
	return nil
}

func parseAdded(item json.RawMessage) (a addedToken, err error) {
	f, err := fieldsOf(item)
	if err != nil {
		return a, err
	}
	if a.Content, err = f.text("content"); err != nil {
		return a, err
	}
	if a.Content == "" {
		return a, fmt.Errorf("content: empty token")
	}
	if err := json.Unmarshal(orNull(f["id"]), &a.ID); err != nil || !f.has("id") {
		return a, fmt.Errorf("id: want a whole number, have %.40s", orNull(f["id"]))
	}
	for _, flag := range []struct {
		key string
		dst *bool
	}{
		{"single_word", &a.SingleWord}, {"lstrip", &a.LStrip}, {"rstrip", &a.RStrip},
		{"normalized", &a.Norm}, {"special", &a.Special},
	} {
		if *flag.dst, err = f.flag(flag.key); err != nil {
			return a, err
		}
		if !f.has(flag.key) {
			return a, fmt.Errorf("%s: missing", flag.key)
		}
	}
	return a, nil
}
