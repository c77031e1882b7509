package tokenizer

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// toJSON is Hugging Face's tojson filter: Python's json.dumps with ensure_ascii=False, no
// HTML escapes, keys in their order, and indent where it is given.
func toJSON(b *budget, in *exec.Value, p *exec.VarArgs) (*exec.Value, error) {
	w := &jsonWriter{budget: b, indent: -1}
	if indent := p.GetKeywordArgument("indent", nil); indent.IsInteger() {
		w.indent = indent.Integer()
	} else if len(p.Args) > 1 && p.Args[1].IsInteger() { // tojson(ensure_ascii, indent)
		w.indent = p.Args[1].Integer()
	}
	if w.indent > 16 {
		return nil, fmt.Errorf("tojson: indent %d", w.indent)
	}
	if err := w.value(in, 0); err != nil {
		return nil, err
	}
	return exec.AsValue(w.String()), nil
}

type jsonWriter struct {
	strings.Builder
	budget *budget
	indent int // spaces for each level; negative: one line
}

func (w *jsonWriter) value(v *exec.Value, level int) error {
	if err := w.budget.grow(w.Len()); err != nil {
		return err
	}
	r := resolve(v)
	switch {
	case v.IsError():
		return v
	case v.IsNil():
		w.WriteString("null")
	case v.IsBool():
		w.WriteString(strings.ToLower(v.String()))
	case v.IsNumber():
		w.WriteString(v.String())
	case v.IsString():
		w.quote(r.String())
	case r.Kind() == reflect.Slice:
		return w.list(v, level)
	default:
		dict, ok := v.Interface().(*exec.Dict)
		if !ok {
			return fmt.Errorf("tojson: %s has no JSON form", describe(v))
		}
		return w.dict(dict, level)
	}
	return nil
}

func (w *jsonWriter) list(v *exec.Value, level int) error {
	items, err := itemsOf(v)
	if err != nil {
		return err
	}
	w.WriteByte('[')
	for i, item := range items {
		w.separate(i, level+1)
		if err := w.value(item, level+1); err != nil {
			return err
		}
	}
	w.close(len(items), level, ']')
	return nil
}

func (w *jsonWriter) dict(d *exec.Dict, level int) error {
	w.WriteByte('{')
	for i, pair := range d.Pairs {
		w.separate(i, level+1)
		w.quote(pair.Key.String())
		w.WriteString(": ")
		if err := w.value(pair.Value, level+1); err != nil {
			return err
		}
	}
	w.close(len(d.Pairs), level, '}')
	return nil
}

// separate writes what stands before item i of a list or dict.
func (w *jsonWriter) separate(i, level int) {
	if i > 0 {
		w.WriteByte(',')
	}
	if w.indent >= 0 {
		w.WriteByte('\n')
		w.WriteString(strings.Repeat(" ", w.indent*level))
	} else if i > 0 {
		w.WriteByte(' ')
	}
}

func (w *jsonWriter) close(n, level int, bracket byte) {
	if n > 0 && w.indent >= 0 {
		w.WriteByte('\n')
		w.WriteString(strings.Repeat(" ", w.indent*level))
	}
	w.WriteByte(bracket)
}

// quote writes a string as json.dumps(ensure_ascii=False) does.
func (w *jsonWriter) quote(s string) {
	w.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			w.WriteByte('\\')
			w.WriteRune(r)
		case '\n':
			w.WriteString(`\n`)
		case '\r':
			w.WriteString(`\r`)
		case '\t':
			w.WriteString(`\t`)
		case '\b':
			w.WriteString(`\b`)
		case '\f':
			w.WriteString(`\f`)
		default:
			if r < 0x20 {
				fmt.Fprintf(w, `\u%04x`, r)
			} else {
				w.WriteRune(r)
			}
		}
	}
	w.WriteByte('"')
}
