package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/eval/synthetic"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// maxInputBytes bounds what is read as a prompt: far above 1M tokens.
const maxInputBytes = 1 << 30

// inputFlags say where the prompt comes from.
type inputFlags struct {
	question     string
	file         string
	messages     string
	ids          string
	system       string
	raw          bool
	parseSpecial bool
	hide         bool
}

func (f *inputFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "prompt-file", "f", "", "`file` that holds the prompt, or the document in front of the question; - is standard input")
	fl.StringVar(&f.messages, "messages", "", "JSON `file` with a chat: [{\"role\": \"user\", \"content\": \"...\"}, ...]")
	fl.StringVar(&f.ids, "ids", "", "JSON `file` with an array of token ids, used as they are")
	fl.StringVar(&f.system, "system", "", "system `message` in front of the prompt")
	fl.BoolVar(&f.raw, "no-chat-template", false, "continue the prompt as plain text; special tokens in it are recognised, as Hugging Face does")
	fl.BoolVar(&f.parseSpecial, "parse-special", false, "recognise special tokens written in a chat message")
	fl.BoolVar(&f.hide, "needle", false, "hide a number, drawn from --seed, in the --prompt-file and ask for it as RULER does, the start of the answer given")
}

// check finds flags that exclude each other.
func (f *inputFlags) check() error {
	var sources []string
	for _, s := range []struct {
		name string
		used bool
	}{
		{"--ids", f.ids != ""},
		{"--messages", f.messages != ""},
		{"a question or --prompt-file", f.question != "" || f.file != ""},
	} {
		if s.used {
			sources = append(sources, s.name)
		}
	}
	switch {
	case len(sources) > 1:
		return fmt.Errorf("%s exclude each other", strings.Join(sources, ", "))
	case f.hide && (f.file == "" || f.question != "" || f.raw):
		return errors.New("--needle needs --prompt-file, asks its own question, and goes through the chat template")
	case f.system != "" && (f.raw || f.ids != "" || f.messages != ""):
		return errors.New("--system is for a prompt that goes through the chat template")
	}
	return nil
}

// input is a prompt before tokenisation: ids, messages, or plain text.
type input struct {
	ids          []int32
	messages     []tokenizer.Message
	text         string
	prefix       string // start of the answer, behind the chat template's header
	parseSpecial bool
	needle       *needle
	warning      string // what encode changed, for the user to know
}

// needle is a number hidden in the prompt.
type needle struct {
	Question string  `json:"question"`
	Expected string  `json:"expected"`
	Depth    float64 `json:"depth"` // 0 to 1: where in the document
	Found    bool    `json:"found"`
}

// judge says whether the answer holds the number.
func (n *needle) judge(answer string) *needle {
	if n != nil {
		n.Found = strings.Contains(answer, n.Expected)
	}
	return n
}

func (f *inputFlags) read(stdin io.Reader, seed uint64) (input, error) {
	in := input{parseSpecial: f.parseSpecial}
	switch {
	case f.ids != "":
		ids, err := readIDs(f.ids)
		in.ids = ids
		return in, err
	case f.messages != "":
		var err error
		in.messages, err = readMessages(f.messages)
		return in, err
	}
	text, err := f.document(stdin)
	if err != nil {
		return in, err
	}
	if f.hide {
		h, err := synthetic.HideNeedle(text, seed)
		if err != nil {
			return in, err
		}
		in.needle = &needle{Question: h.Question, Expected: h.Answer, Depth: float64(h.Offset) / float64(len(h.Document))}
		text, in.prefix = h.Prompt.User, h.Prompt.Prefix
	} else if f.question != "" {
		text = ask(text, f.question)
	}
	if text == "" {
		return in, errEmptyPrompt
	}
	f.fill(&in, text)
	return in, nil
}

// ask puts a question behind a document, where there is one.
func ask(document, question string) string {
	if document == "" {
		return question
	}
	return strings.TrimRight(document, "\n") + "\n\n" + question
}

// fill makes text the input, as a chat message or as it is.
func (f *inputFlags) fill(in *input, text string) {
	if f.raw {
		in.text = text
		return
	}
	if f.system != "" {
		in.messages = append(in.messages, tokenizer.Message{Role: "system", Content: f.system})
	}
	in.messages = append(in.messages, tokenizer.Message{Role: "user", Content: text})
}

// fromStdin says whether the prompt, or a part of it, is what comes on standard input.
func (f *inputFlags) fromStdin() bool {
	return f.file == "-" || f.file == "" && f.question == "" && f.ids == "" && f.messages == ""
}

// document reads the prompt file, or standard input where that is the only source.
func (f *inputFlags) document(stdin io.Reader) (string, error) {
	var b []byte
	var err error
	switch {
	case f.file != "" && f.file != "-":
		b, err = readInput(f.file)
	case f.fromStdin():
		b, err = readAll(stdin, "standard input")
	}
	return string(b), err
}

// readMessages reads a chat.
func readMessages(path string) ([]tokenizer.Message, error) {
	b, err := readInput(path)
	if err != nil {
		return nil, err
	}
	messages, err := tokenizer.ParseMessages(b)
	if err != nil {
		return nil, fmt.Errorf("messages %s: %w", path, err)
	}
	if len(messages) == 0 {
		return nil, fmt.Errorf("messages %s: no message", path)
	}
	return messages, nil
}

// readIDs reads a JSON array of token ids.
func readIDs(path string) ([]int32, error) {
	b, err := readInput(path)
	if err != nil {
		return nil, err
	}
	ids, err := parseIDs(b)
	if err == nil && len(ids) == 0 {
		err = errors.New("no token id")
	}
	if err != nil {
		return nil, fmt.Errorf("ids %s: %w", path, err)
	}
	return ids, nil
}

// parseIDs reads a JSON array of token ids, which may be empty.
func parseIDs(data []byte) ([]int32, error) {
	var ids []int32
	if err := json.Unmarshal(data, &ids); err != nil {
		return nil, fmt.Errorf("want a JSON array of token ids: %w", err)
	}
	if at := bytes.Index(data, []byte("null")); at >= 0 { // Go reads it as 0
		return nil, fmt.Errorf("want a JSON array of token ids, there is null at byte %d", at)
	}
	return ids, nil
}

// readInput reads a file or a pipe that the user named.
func readInput(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	defer file.Close()
	return readAll(file, path)
}

func readAll(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxInputBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxInputBytes {
		return nil, fmt.Errorf("read %s: more than %d bytes", name, maxInputBytes)
	}
	return b, nil
}

// prompt is an input's ids, and what turns the answer's into text.
type prompt struct {
	ids []int32
	tok *tokenizer.Tokenizer // nil where ids were given and the folder has none
}

func (p prompt) close() {
	if p.tok != nil {
		p.tok.Close()
	}
}

// tokens turns the input into ids.
func (in *input) tokens(e *engine) (p prompt, err error) {
	p.ids = in.ids
	if p.tok, err = e.tokenizer(); in.ids != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return p, err
	}
	if err != nil {
		return p, err
	}
	if p.ids, err = in.encode(p.tok); err != nil {
		p.close()
	}
	return p, err
}

// encode turns messages or text into ids.
func (in *input) encode(tok *tokenizer.Tokenizer) (ids []int32, err error) {
	if in.messages != nil {
		ids, err = tok.ChatIDs(in.messages, tokenizer.ChatOptions{AddGenerationPrompt: true, ParseSpecial: in.parseSpecial})
	} else {
		ids, err = in.encodeText(tok)
	}
	if err != nil || in.prefix == "" {
		return ids, err
	}
	prefix, err := tok.Encode(in.prefix, tokenizer.EncodeOptions{})
	return append(ids, prefix...), err
}

// encodeText turns text into ids with exactly one BOS where the tokenizer adds one: a text that was rendered by a chat
// template brings its own.
func (in *input) encodeText(tok *tokenizer.Tokenizer) ([]int32, error) {
	ids, err := tok.Encode(in.text, tokenizer.EncodeOptions{AddSpecial: true, ParseSpecial: true})
	if err != nil {
		return nil, err
	}
	added, err := tok.Encode("", tokenizer.EncodeOptions{AddSpecial: true})
	if n := len(added); n > 0 && len(ids) > n && slices.Equal(ids[n:min(2*n, len(ids))], added) {
		in.warning = "the prompt starts with the tokenizer's own beginning-of-text token: no second one was added"
		ids = ids[n:]
	}
	return ids, err
}
