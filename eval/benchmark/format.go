package benchmark

import (
	"fmt"
	"strings"
	"unicode"
)

// fill is Python's template.format(**values): {name} becomes its value, {{ and }} braces. Values go in as they are.
// Anything else that str.format knows, and a name without a value, is an error.
func fill(template string, values map[string]string) (string, error) {
	var b strings.Builder
	for rest := template; ; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			b.WriteString(rest)
			return b.String(), nil
		}
		b.WriteString(rest[:i])
		brace := rest[i : i+1]
		rest = rest[i+1:]
		if strings.HasPrefix(rest, brace) {
			b.WriteString(brace)
			rest = rest[1:]
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		value, known := values[name]
		switch {
		case brace == "}":
			return "", fmt.Errorf("template %.60q: a single } that nothing opens", template)
		case !closed:
			return "", fmt.Errorf("template %.60q: a single { that nothing closes", template)
		case !known:
			return "", fmt.Errorf("template %.60q: field {%.20s}: want one of the row's fields", template, name)
		}
		b.WriteString(value)
		rest = after
	}
}

// A pair is a field and what stands for it.
type pair struct{ field, value string }

// replaceInTurn replaces every occurrence of each field by its value, one field after another: a later field that
// stands in an earlier value is replaced as well. LongBench-v2 and OpenCompass fill their templates so.
func replaceInTurn(template string, pairs []pair) string {
	for _, p := range pairs {
		template = strings.ReplaceAll(template, p.field, p.value)
	}
	return template
}

// isSpace is Python's str.isspace of one character.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
