package metric

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A label is what a row has for an answer: a string, a json.Number or a list ([]any).
type label struct{ value any }

func parseLabel(raw json.RawMessage) (label, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var l label
	if err := d.Decode(&l.value); err != nil {
		return l, err
	}
	return l, nil
}

// first is a list's first value, or the label itself.
func (l label) first() any {
	if list, ok := l.value.([]any); ok && len(list) > 0 {
		return list[0]
	}
	return l.value
}

// items are what Python's for loop takes from the label: a list's values, or a string's characters.
func (l label) items() ([]any, error) {
	switch v := l.value.(type) {
	case []any:
		return v, nil
	case string:
		var all []any
		for _, c := range v {
			all = append(all, string(c))
		}
		return all, nil
	}
	return nil, fmt.Errorf("label %v: want a list", l.value)
}

// texts are the items, all of which must be strings.
func (l label) texts() ([]string, error) {
	items, err := l.items()
	var texts []string
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("label %v: want strings", item)
		}
		texts = append(texts, text)
	}
	return texts, err
}

// holds is Python's s in label: membership in a list, a part of a string.
func (l label) holds(s string) bool {
	if text, ok := l.value.(string); ok {
		return strings.Contains(text, s)
	}
	list, _ := l.value.([]any)
	return slices.ContainsFunc(list, func(v any) bool { return v == any(s) })
}

// bestItem is the best score against any item.
func (l label) bestItem(score func(answer string) float64) (float64, error) {
	texts, err := l.texts()
	best := 0.0
	for _, text := range texts {
		best = max(best, score(text))
	}
	return best, err
}

// best is bestItem where a string is one answer.
func (l label) best(score func(answer string) float64) (float64, error) {
	if text, ok := l.value.(string); ok {
		return score(text), nil
	}
	return l.bestItem(score)
}

// intDigits is the longest number Python reads into an int.
const intDigits = 4300

// parseInt reads a number as Python's int(s) does, digits of any script and single underscores between them included,
// and returns it in ASCII digits without leading zeros.
func parseInt(s string) (string, error) {
	bad := fmt.Errorf("%.40q is no integer", s)
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign = strings.TrimPrefix(s[:1], "+")
		s = s[1:]
	}
	digits := make([]byte, 0, len(s))
	under := true // an underscore may not come first
	for _, r := range s {
		switch {
		case unicode.IsDigit(r):
			digits = append(digits, '0'+digitValue(r))
			under = false
		case r == '_' && !under:
			under = true
		default:
			return "", bad
		}
	}
	if under || len(digits) > intDigits {
		return "", bad
	}
	n := strings.TrimLeft(string(digits), "0")
	if n == "" {
		return "0", nil
	}
	return sign + n, nil
}

// isInt tells whether Python reads the JSON number as an int.
func isInt(n json.Number) bool { return !strings.ContainsAny(string(n), ".eE") }

// sameNumber is Python's n == integer.
func sameNumber(n json.Number, integer string) bool {
	if isInt(n) {
		a, err := parseInt(string(n))
		return err == nil && a == integer
	}
	a, err := n.Float64()
	b, err2 := strconv.ParseFloat(integer, 64)
	return errors.Join(err, err2) == nil && a == b
}
