// Package tokenizer turns text into token ids and back as Hugging Face tokenizers do, and
// renders chat templates.
//
// It reads the byte-level BPE tokenizers of the Llama 3 and Qwen2 families: tokenizer.json,
// tokenizer_config.json, special_tokens_map.json and chat_template.jinja of a model folder.
// Encoding is the tokenizers library's (through github.com/daulet/tokenizers), decoding and
// everything that guards the library is done here.
package tokenizer

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// A Tokenizer is a loaded model folder. It may be used by many goroutines.
type Tokenizer struct {
	spec    *spec
	engine  *engine
	config  config
	byID    []string // [vocabulary] bytes of each token
	special []bool   // [vocabulary] added tokens marked special

	marks        map[rune]bool // first characters of added tokens
	ends         [256]bool     // their last bytes
	addedSet     map[string]bool
	addedLengths []int // in bytes, ascending

	mu           sync.Mutex // guards the masked engine
	maskedEngine *engine

	limits   limits
	merger   func() *merger // for words too long for the library
	template func() (*chatTemplate, error)
}

// EncodeOptions say what Encode makes of special tokens.
type EncodeOptions struct {
	AddSpecial   bool // put what the post-processor says around the text, Llama's BOS above all
	ParseSpecial bool // the text of an added token in the text becomes that token
}

// Load reads the tokenizer of a model folder: tokenizer.json, and where they are there
// tokenizer_config.json, special_tokens_map.json and chat_template.jinja. Errors name the
// file and the field.
func Load(dir string) (*Tokenizer, error) {
	path := filepath.Join(dir, "tokenizer.json")
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("load tokenizer: %w", err)
	}
	s, err := parseSpec(data)
	if err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", path, err)
	}
	c, err := readConfig(dir)
	if err != nil {
		return nil, fmt.Errorf("load tokenizer: %w", err)
	}
	t := newTokenizer(s, c)
	if t.engine, err = newEngine(s, loadOptions()); err != nil {
		return nil, fmt.Errorf("load tokenizer %s: %w", path, err)
	}
	if n := t.engine.rust.VocabSize(); int(n) != len(t.byID) {
		return nil, fmt.Errorf("load tokenizer %s: the library counts %d tokens, the file has %d", path, n, len(t.byID))
	}
	return t, nil
}

func newTokenizer(s *spec, c config) *Tokenizer {
	t := &Tokenizer{
		spec: s, config: c, limits: longTexts(),
		byID:     make([]string, len(s.tokens)),
		special:  make([]bool, len(s.tokens)),
		marks:    map[rune]bool{},
		addedSet: map[string]bool{},
	}
	inverse := byteOf()
	for id, token := range s.tokens {
		t.byID[id] = tokenBytes(token, inverse)
	}
	for _, a := range s.added {
		t.special[a.ID] = a.Special
		r, _ := utf8.DecodeRuneInString(a.Content)
		t.marks[r] = true
		t.ends[a.Content[len(a.Content)-1]] = true
		t.addedSet[a.Content] = true
		t.addedLengths = append(t.addedLengths, len(a.Content))
	}
	slices.Sort(t.addedLengths)
	t.addedLengths = slices.Compact(t.addedLengths)
	t.merger = sync.OnceValue(func() *merger { return newMerger(s) })
	t.template = sync.OnceValues(func() (*chatTemplate, error) { return compileTemplate(c.chatTemplate) })
	return t
}

// Encode returns the ids of text. Ill-formed UTF-8 is read as ValidUTF8 reads it. Without
// ParseSpecial no added token is recognised, special or not: "<|eot_id|>" and "<tool_call>"
// are then text like any other.
func (t *Tokenizer) Encode(text string, opt EncodeOptions) ([]int32, error) {
	text = ValidUTF8(text)
	plain := !opt.ParseSpecial && t.holdsAdded(text)
	e := t.engine
	if plain || strings.IndexByte(text, 0) >= 0 {
		s, err := t.freeStandIns(text)
		if err != nil {
			return nil, err
		}
		if plain {
			text = t.mask(text, s)
		}
		if text, e, err = t.withoutNUL(text, s); err != nil {
			return nil, err
		}
	}
	ids, err := t.encodeLong(e, text)
	if err != nil || !opt.AddSpecial {
		return ids, err
	}
	return slices.Concat(t.spec.prefix, ids, t.spec.suffix), nil
}

// withoutNUL returns text as the masked engine takes it, and that engine.
func (t *Tokenizer) withoutNUL(text string, s standIns) (string, *engine, error) {
	e, err := t.masked(s)
	return strings.ReplaceAll(text, "\x00", string(s.of(0))), e, err
}

// Decode returns the text of ids as the tokenizers library's decode does: bytes that are no
// UTF-8 become U+FFFD, spaces are left as they are, and an id above MaxID has no text: models
// with more embedding rows than their tokenizer has tokens can produce it. skipSpecial leaves
// out the tokens marked special. A negative id is an error.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) (string, error) {
	var b strings.Builder
	for _, id := range ids {
		token, err := t.bytes(id, skipSpecial)
		if err != nil {
			return "", err
		}
		b.WriteString(token)
	}
	return ValidUTF8(b.String()), nil
}

// bytes returns the bytes that id stands for.
func (t *Tokenizer) bytes(id int32, skipSpecial bool) (string, error) {
	if id < 0 {
		return "", fmt.Errorf("decode token %d: an id cannot be negative", id)
	}
	if id > t.MaxID() || skipSpecial && t.special[id] {
		return "", nil
	}
	return t.byID[id], nil
}

// MaxID is the highest id that Encode can return; ids have no gaps. A model needs an embedding row for it.
func (t *Tokenizer) MaxID() int32 { return int32(len(t.byID) - 1) }

// Close frees the library's memory; the Tokenizer must not be used after it.
func (t *Tokenizer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.engine.rust.Close()
	if t.maskedEngine != nil {
		err = errors.Join(err, t.maskedEngine.rust.Close())
	}
	return err
}
