package eval

import (
	"strconv"
	"strings"
	"unicode"
)

// MatchAll is RULER's string_match_all for one row: the share of outputs that occur in the cleaned prediction, letter case
// aside. A row without outputs has nothing to match and scores 0.
func MatchAll(pred string, outputs []string) float64 {
	if len(outputs) == 0 {
		return 0
	}
	pred = lower(pred)
	hits := 0.0
	for _, o := range outputs {
		if strings.Contains(pred, lower(o)) {
			hits++
		}
	}
	return hits / float64(len(outputs))
}

// MatchPart is RULER's string_match_part for one row: 1 if any output occurs in the prediction, letter case aside,
// else 0.
func MatchPart(pred string, outputs []string) float64 {
	pred = lower(pred)
	for _, o := range outputs {
		if strings.Contains(pred, lower(o)) {
			return 1
		}
	}
	return 0
}

// CleanPrediction is RULER's post-processing: each control character below 32 becomes a newline, and white space at
// both ends goes.
func CleanPrediction(pred string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < 32 {
			return '\n'
		}
		return r
	}, pred))
}

// percent is the mean of row scores (their sum over n) as RULER prints it, in percent with two decimals.
func percent(sum float64, n int) float64 {
	if n == 0 {
		return 0
	}
	mean := sum / float64(n)
	return round2(mean * 100)
}

// round2 is Python's round(x, 2): from the exact decimal value, halves to even.
func round2(x float64) float64 {
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 2, 64), 64) // what FormatFloat writes always parses
	return y
}

// lower is Python's str.lower. It differs from strings.ToLower in the two letters Unicode maps by more than a
// table: U+0130 becomes an i and a combining dot, and a capital sigma at the end of a word the final form.
func lower(s string) string {
	if !strings.ContainsAny(s, "İΣ") {
		return strings.ToLower(s)
	}
	rs := []rune(s)
	var b strings.Builder
	for i, r := range rs {
		switch {
		case r == 'İ':
			b.WriteString("i\u0307")
		case r == 'Σ' && endsWord(rs, i):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// endsWord is Unicode's Final_Sigma condition: a cased letter before position i and none after it, those marks
// aside that case ignores.
func endsWord(rs []rune, i int) bool {
	before, after := i-1, i+1
	for before >= 0 && caseIgnorable(rs[before]) {
		before--
	}
	for after < len(rs) && caseIgnorable(rs[after]) {
		after++
	}
	return before >= 0 && cased(rs[before]) && (after == len(rs) || !cased(rs[after]))
}

func cased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

func caseIgnorable(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) ||
		strings.ContainsRune("'.:·\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A", r)
}
