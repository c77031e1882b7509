package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// Message is one turn of a chat.
type Message struct {
	Role    string
	Content string
	Extra   []Field // what else a template may read, in order: tool_calls, name
}

// Field is a named JSON value: nil, bool, int, float64, string, []any or []Field.
type Field struct {
	Name  string
	Value any
}

// ChatOptions say how ChatIDs renders messages.
type ChatOptions struct {
	AddGenerationPrompt bool             // end with the opening of the assistant's turn
	ParseSpecial        bool             // added tokens written in a message become those tokens
	Now                 func() time.Time // for strftime_now; time.Now where nil
}

// ParseMessages reads a JSON array of messages: objects with role and content, both
// strings. A content that is null or not there is an empty one.
func ParseMessages(data []byte) ([]Message, error) {
	if err := scanJSON(data); err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	items, err := list(data)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	messages := make([]Message, len(items))
	for i, item := range items {
		if messages[i], err = parseMessage(item); err != nil {
			return nil, fmt.Errorf("read messages: [%d]: %w", i, err)
		}
	}
	return messages, nil
}

func parseMessage(data json.RawMessage) (m Message, err error) {
	members, err := object(data)
	if err != nil {
		return m, err
	}
	hasRole := false
	for _, field := range members {
		switch field.key {
		case "role":
			m.Role, err = fields{"role": field.value}.text("role")
			hasRole = true
		case "content":
			if !isNull(field.value) {
				m.Content, err = fields{"content": field.value}.text("content")
			}
		default:
			var value any
			value, err = jsonValue(field.value)
			m.Extra = append(m.Extra, Field{field.key, value})
		}
		if err != nil {
			return m, err
		}
	}
	if !hasRole {
		return m, errors.New("role: missing")
	}
	return m, nil
}

// jsonValue reads any JSON value into what a Field holds.
func jsonValue(data json.RawMessage) (any, error) {
	switch kind(data) {
	case "an object":
		members, err := object(data)
		if err != nil {
			return nil, err
		}
		all := make([]Field, len(members))
		for i, m := range members {
			all[i].Name = m.key
			if all[i].Value, err = jsonValue(m.value); err != nil {
				return nil, err
			}
		}
		return all, nil
	case "an array":
		items, err := list(data)
		if err != nil {
			return nil, err
		}
		all := make([]any, len(items))
		for i, item := range items {
			if all[i], err = jsonValue(item); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	var whole int
	if json.Unmarshal(data, &whole) == nil && !isNull(data) {
		return whole, nil
	}
	var value any
	err := json.Unmarshal(data, &value)
	return value, err
}

// ChatIDs renders messages by the model's chat template, as Hugging Face's
// apply_chat_template does without tools and documents, and returns the ids of the result,
// with nothing added: a template that wants a BOS writes it. Nothing in a message is
// expanded as a template. Errors name the template's line. What templates seldom use is an
// error too: include, import, extends, block, call, with and filter blocks, recursive loops,
// and "x if y else z" inside brackets. None prints as nothing where Jinja2 writes "None".
//
// Unless opt.ParseSpecial is set the text of an added
// token in a message, special or not, is encoded as plain text, and only the template's own
// added tokens are recognised.
func (t *Tokenizer) ChatIDs(messages []Message, opt ChatOptions) ([]int32, error) {
	rendered, err := t.render(messages, opt)
	if err != nil {
		return nil, err
	}
	if opt.ParseSpecial || !t.anyAdded(messages) {
		return t.Encode(rendered, EncodeOptions{ParseSpecial: true})
	}
	// Render again with stand-ins in the messages and let the masked engine turn them
	// back: what it takes for added tokens is then the template's.
	texts := []string{rendered, t.config.chatTemplate.source}
	for _, m := range messages {
		texts = append(texts, m.texts()...)
	}
	s, err := t.freeStandIns(texts...)
	if err != nil {
		return nil, err
	}
	hidden := make([]Message, len(messages))
	for i, m := range messages {
		hidden[i] = m.mapTexts(func(text string) string { return t.mask(ValidUTF8(text), s) })
	}
	masked, err := t.render(hidden, opt)
	if err != nil {
		return nil, err
	}
	if s.restore(masked) != rendered {
		return nil, fmt.Errorf("chat template %s: it looks for special tokens in the messages, whose text holds some: they cannot be kept as plain text; allow them to be parsed (--parse-special)", t.config.chatTemplate.file)
	}
	masked, e, err := t.withoutNUL(masked, s)
	if err != nil {
		return nil, err
	}
	return t.encodeLong(e, masked)
}

func (t *Tokenizer) anyAdded(messages []Message) bool {
	for _, m := range messages {
		for _, text := range m.texts() {
			if t.holdsAdded(ValidUTF8(text)) {
				return true
			}
		}
	}
	return false
}

// render returns the text that ChatIDs encodes.
func (t *Tokenizer) render(messages []Message, opt ChatOptions) (string, error) {
	template, err := t.template()
	if err != nil {
		return "", err
	}
	if len(messages) == 0 {
		return "", errors.New("chat: no messages")
	}
	size := 0
	values := exec.ValuesList{}
	for _, m := range messages {
		m = m.mapTexts(ValidUTF8)
		for _, text := range m.texts() {
			size += len(text)
		}
		dict := dictOf(append([]Field{{"role", m.Role}, {"content", m.Content}}, m.Extra...))
		values = append(values, exec.AsValue(dict))
	}
	variables := map[string]any{
		"messages":              exec.AsValue(values),
		"add_generation_prompt": opt.AddGenerationPrompt,
		"tools":                 nil,
		"documents":             nil,
	}
	for name, token := range t.config.special {
		variables[name] = token
	}
	now := opt.Now
	if now == nil {
		now = time.Now
	}
	return template.render(variables, size, now)
}

// dictOf makes a gonja dict of fields, in their order.
func dictOf(all []Field) *exec.Dict {
	d := exec.NewDict()
	for _, f := range all {
		d.Pairs = append(d.Pairs, &exec.Pair{Key: exec.AsValue(f.Name), Value: valueOf(f.Value)})
	}
	return d
}

func valueOf(v any) *exec.Value {
	switch v := v.(type) {
	case []Field:
		return exec.AsValue(dictOf(v))
	case []any:
		items := exec.ValuesList{}
		for _, item := range v {
			items = append(items, valueOf(item))
		}
		return exec.AsValue(items)
	}
	return exec.AsValue(v)
}

// texts lists every string of a message.
func (m Message) texts() (texts []string) {
	m.mapTexts(func(s string) string {
		texts = append(texts, s)
		return s
	})
	return texts
}

// mapTexts returns the message with every string replaced.
func (m Message) mapTexts(f func(string) string) Message {
	return Message{f(m.Role), f(m.Content), mapFields(m.Extra, f)}
}

func mapFields(all []Field, f func(string) string) []Field {
	mapped := make([]Field, len(all))
	for i, field := range all {
		mapped[i] = Field{field.Name, mapValue(field.Value, f)}
	}
	return mapped
}

func mapValue(v any, f func(string) string) any {
	switch v := v.(type) {
	case string:
		return f(v)
	case []Field:
		return mapFields(v, f)
	case []any:
		mapped := make([]any, len(v))
		for i, item := range v {
			mapped[i] = mapValue(item, f)
		}
		return mapped
	}
	return v
}
