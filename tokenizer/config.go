package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"unicode/utf8"
)

// config is what tokenizer_config.json, special_tokens_map.json and chat_template.jinja say.
type config struct {
	special      map[string]string // "bos_token" and the like to the token's text
	chatTemplate templateSource
}

// templateSource is the text of a chat template and where it is from.
type templateSource struct{ file, source string }

// readConfig reads the optional files beside tokenizer.json. chat_template.jinja wins over
// the chat_template of tokenizer_config.json, and that file over special_tokens_map.json.
func readConfig(dir string) (config, error) {
	c := config{special: map[string]string{}}
	for _, name := range []string{"special_tokens_map.json", "tokenizer_config.json"} {
		path := filepath.Join(dir, name)
		data, err := optional(path)
		if err != nil {
			return c, err
		}
		if data == nil {
			continue
		}
		if err := c.read(path, data); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	path := filepath.Join(dir, "chat_template.jinja")
	data, err := optional(path)
	if err != nil {
		return c, err
	}
	if data != nil {
		if !utf8.Valid(data) {
			return c, fmt.Errorf("%s: not valid UTF-8", path)
		}
		c.chatTemplate = templateSource{path, string(data)}
	}
	return c, nil
}

// optional reads a file; one that is not there is nil.
func optional(path string) ([]byte, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (c *config) read(path string, data []byte) error {
	if err := scanJSON(data); err != nil {
		return err
	}
	f, err := fieldsOf(data)
	if err != nil {
		return err
	}
	for _, key := range []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"} {
		if _, ok := f[key]; !ok {
			continue
		}
		delete(c.special, key)
		if !f.has(key) {
			continue
		}
		token, err := tokenText(f[key])
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		c.special[key] = token
	}
	if !f.has("chat_template") {
		return nil
	}
	source, err := defaultTemplate(f["chat_template"])
	if err != nil {
		return fmt.Errorf("chat_template: %w", err)
	}
	c.chatTemplate = templateSource{path + ": chat_template", source}
	return nil
}

// tokenText reads a token given as a string or as an AddedToken object.
func tokenText(data json.RawMessage) (string, error) {
	if kind(data) == "an object" {
		f, err := fieldsOf(data)
		if err != nil {
			return "", err
		}
		return f.text("content")
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return "", fmt.Errorf("want a string, have %s", kind(data))
	}
	return s, nil
}

// defaultTemplate reads a template given as a string or as a list of named ones.
func defaultTemplate(data json.RawMessage) (string, error) {
	if kind(data) == "a string" {
		return tokenText(data)
	}
	items, err := list(data)
	if err != nil {
		return "", fmt.Errorf("want a string or a list, have %s", kind(data))
	}
	found := ""
	for i, item := range items {
		f, err := fieldsOf(item)
		if err != nil {
			return "", fmt.Errorf("[%d]: %w", i, err)
		}
		name, err := f.text("name")
		if err != nil {
			return "", fmt.Errorf("[%d]: %w", i, err)
		}
		source, err := f.text("template")
		if err != nil {
			return "", fmt.Errorf("[%d]: %w", i, err)
		}
		if name == "default" {
			found = source
		}
	}
	return found, nil
}
