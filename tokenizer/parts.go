package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

const maxRegexBytes = 16 << 10

// normalizer lets the Unicode normal forms through.
func (s *spec) normalizer(data json.RawMessage) error {
	if isNull(data) {
		return nil
	}
	s.normalised = true
	return walk(data, "normalizers", func(_ fields, kind string) error {
		switch kind {
		case "NFC", "NFD", "NFKC", "NFKD":
			return nil
		}
		return fmt.Errorf("type %q not supported: want NFC, NFD, NFKC, NFKD or a Sequence of them", kind)
	})
}

// preTokenizer wants regexes and such first and ByteLevel last. Whether a regex is one, the
// library says.
func (s *spec) preTokenizer(data json.RawMessage) error {
	var kinds []string
	err := walk(data, "pretokenizers", func(f fields, kind string) error {
		kinds = append(kinds, kind)
		return s.splitter(f, kind)
	})
	if err != nil {
		return err
	}
	if len(kinds) == 0 || kinds[len(kinds)-1] != "ByteLevel" {
		return errors.New("ByteLevel must come last: only byte-level BPE is supported")
	}
	if len(kinds) > 2 || len(kinds) == 2 && kinds[0] != "Split" {
		s.pattern = ""
	}
	return nil
}

func (s *spec) splitter(f fields, kind string) error {
	switch kind {
	case "Split":
		return s.split(f)
	case "ByteLevel":
		return s.byteLevel(f)
	case "Digits", "Punctuation":
		return nil
	}
	return fmt.Errorf("type %q not supported: want Split, Digits, Punctuation, ByteLevel or a Sequence of them", kind)
}

func (s *spec) split(f fields) error {
	pattern, err := f.object("pattern")
	if err != nil {
		return err
	}
	behavior, err := f.text("behavior")
	if err != nil {
		return err
	}
	invert, err := f.flag("invert")
	if err != nil {
		return err
	}
	if pattern.has("String") {
		if _, err := pattern.text("String"); err != nil {
			return fmt.Errorf("pattern: %w", err)
		}
		return nil
	}
	regex, err := pattern.text("Regex")
	if err != nil {
		return fmt.Errorf("pattern: %w", err)
	}
	if len(regex) > maxRegexBytes {
		return fmt.Errorf("pattern: regex of %d bytes, more than the %d allowed", len(regex), maxRegexBytes)
	}
	if behavior == "Isolated" && !invert || behavior == "Removed" && invert {
		s.pattern = regex
	}
	return nil
}

func (s *spec) byteLevel(f fields) error {
	prefixSpace, err := f.flag("add_prefix_space")
	if err != nil {
		return err
	}
	useRegex, err := f.flag("use_regex")
	if err != nil {
		return err
	}
	s.prefixSpace = s.prefixSpace || prefixSpace
	if useRegex || !f.has("use_regex") { // true by default
		if s.pattern != "" {
			s.pattern = "" // two regexes, one after the other
		} else {
			s.pattern = patternGPT2
		}
	}
	return nil
}

// postProcessor finds what goes around a text: the special tokens of a TemplateProcessing.
func (s *spec) postProcessor(data json.RawMessage) error {
	if isNull(data) {
		return nil
	}
	return walk(data, "processors", func(f fields, kind string) error {
		switch kind {
		case "ByteLevel":
			return nil
		case "TemplateProcessing":
			return s.template(f)
		}
		return fmt.Errorf("type %q not supported: want TemplateProcessing, ByteLevel or a Sequence of them", kind)
	})
}

func (s *spec) template(f fields) error {
	special, err := s.specialTokens(f["special_tokens"])
	if err != nil {
		return fmt.Errorf("special_tokens: %w", err)
	}
	if _, err := readPieces(f, "pair", special); err != nil {
		return err
	}
	single, err := readPieces(f, "single", special)
	if err != nil {
		return err
	}
	if single.sequences != 1 {
		return fmt.Errorf("single: want Sequence A once, have it %d times", single.sequences)
	}
	s.prefix = append(single.before, s.prefix...)
	s.suffix = append(s.suffix, single.after...)
	return nil
}

// The two kinds of piece in a template.
const (
	sequencePiece = "Sequence" // the text, id A, or in a pair the second text, id B
	tokenPiece    = "SpecialToken"
)

// pieces are a template's special tokens before and after the last of its sequences.
type pieces struct {
	before, after []int32
	sequences     int
}

func readPieces(f fields, key string, special map[string][]int32) (p pieces, err error) {
	err = each(f, key, func(data json.RawMessage) error {
		piece, err := fieldsOf(data)
		if err != nil {
			return err
		}
		if piece.has(sequencePiece) {
			p.before, p.after = append(p.before, p.after...), nil
			p.sequences++
			return checkSequence(piece, key)
		}
		token, err := piece.object(tokenPiece)
		if err != nil {
			return err
		}
		name, err := token.text("id")
		if err != nil {
			return fmt.Errorf("%s: %w", tokenPiece, err)
		}
		ids, ok := special[name]
		if !ok {
			return fmt.Errorf("%s: %q is not in special_tokens", tokenPiece, name)
		}
		p.after = append(p.after, ids...)
		return nil
	})
	return p, err
}

func checkSequence(piece fields, key string) error {
	sequence, err := piece.object(sequencePiece)
	if err != nil {
		return err
	}
	if id := string(sequence["id"]); id != `"A"` && (key == "single" || id != `"B"`) {
		return fmt.Errorf(`%s: want id "A", or in pair "B", have %.40s`, sequencePiece, orNull(sequence["id"]))
	}
	return nil
}

func (s *spec) specialTokens(data json.RawMessage) (map[string][]int32, error) {
	all, err := fieldsOf(data)
	if err != nil {
		return nil, err
	}
	special := map[string][]int32{}
	for name, value := range all {
		var token struct {
			IDs    []int32  `json:"ids"`
			Tokens []string `json:"tokens"`
		}
		if err := json.Unmarshal(value, &token); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		if len(token.IDs) == 0 || len(token.IDs) != len(token.Tokens) {
			return nil, fmt.Errorf("%q: %d ids for %d tokens", name, len(token.IDs), len(token.Tokens))
		}
		for i, id := range token.IDs {
			if id < 0 || int(id) >= len(s.tokens) || s.tokens[id] != token.Tokens[i] {
				return nil, fmt.Errorf("%q: id %d is not that of token %q", name, id, token.Tokens[i])
			}
		}
		special[name] = token.IDs
	}
	return special, nil
}

// checkDecoder wants ByteLevel: Decode and Stream turn tokens into bytes themselves.
func checkDecoder(data json.RawMessage) error {
	return walk(data, "decoders", func(_ fields, kind string) error {
		if kind != "ByteLevel" {
			return fmt.Errorf("type %q not supported, only ByteLevel is", kind)
		}
		return nil
	})
}

// walk calls do for a part of the tokenizer, or for each part in the list of a Sequence.
func walk(data json.RawMessage, list string, do func(f fields, kind string) error) error {
	f, err := fieldsOf(data)
	if err != nil {
		return err
	}
	kind, err := f.text("type")
	if err != nil {
		return err
	}
	if kind != "Sequence" {
		return do(f, kind)
	}
	return each(f, list, func(data json.RawMessage) error { return walk(data, list, do) })
}

// each calls do for the items of a list field; errors name the item.
func each(f fields, key string, do func(json.RawMessage) error) error {
	items, err := list(f[key])
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for i, item := range items {
		if err := do(item); err != nil {
			return fmt.Errorf("%s[%d]: %w", key, i, err)
		}
	}
	return nil
}
