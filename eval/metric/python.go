package metric

import (
	"math"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// The official scorers are Python. This file has what of Python they rest on, where Go's own differs.

// Round is Python's round(x, digits) of a float: from the exact decimal value, halves to even.
func Round(x float64, digits int) float64 {
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'f', digits, 64), 64) // what FormatFloat writes always parses
	return y
}

// RoundNumPy is NumPy's round(x, 2): it scales first, so some halves go the other way.
func RoundNumPy(x float64) float64 { return math.RoundToEven(x*100) / 100 }

// MeanNumPy is NumPy's mean, NaN of nothing. Its sum is pairwise: eight running sums up to 128 values, halves beyond.
func MeanNumPy(x []float64) float64 { return pairwise(x) / float64(len(x)) }

func pairwise(x []float64) float64 {
	n := len(x)
	switch {
	case n < 8:
		return sum(0, x)
	case n <= 128:
		var r [8]float64
		copy(r[:], x)
		i := 8
		for ; i+8 <= n; i += 8 {
			for k := range r {
				r[k] += x[i+k]
			}
		}
		return sum(((r[0]+r[1])+(r[2]+r[3]))+((r[4]+r[5])+(r[6]+r[7])), x[i:])
	}
	half := n / 2
	half -= half % 8
	return pairwise(x[:half]) + pairwise(x[half:])
}

// sum adds the values to s from left to right.
func sum(s float64, x []float64) float64 {
	for _, v := range x {
		s += v
	}
	return s
}

// space is str.isspace of one character.
func space(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

// strip is str.strip().
func strip(s string) string { return strings.TrimFunc(s, space) }

// fields is str.split().
func fields(s string) []string { return strings.FieldsFunc(s, space) }

// wordChar is \w.
func wordChar(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }

// digitRuns returns what re.findall(r"\d+", s) does: digits of any script.
func digitRuns(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsDigit(r) })
}

// asciiDigits returns what is left of re.split("[^0-9]", s) without the empty strings.
func asciiDigits(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r < '0' || '9' < r })
}

// deletePunctuation deletes the 32 marks of string.punctuation and those of more.
func deletePunctuation(s, more string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && unicode.In(r, unicode.P, unicode.S) || more != "" && strings.ContainsRune(more, r) {
			return -1
		}
		return r
	}, s)
}

// digitValue is the value of a digit of any script. Unicode has them in rows of ten from 0 to 9.
func digitValue(r rune) byte {
	for _, t := range unicode.Nd.R16 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return byte((r - rune(t.Lo)) % 10)
		}
	}
	for _, t := range unicode.Nd.R32 {
		if rune(t.Lo) <= r && r <= rune(t.Hi) {
			return byte((r - rune(t.Lo)) % 10)
		}
	}
	return 0
}

// toASCII writes the digits of any script as ASCII digits.
func toASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x80 && unicode.IsDigit(r) {
			return '0' + rune(digitValue(r))
		}
		return r
	}, s)
}

// upper is str.upper().
func upper(s string) string { return cases.Upper(language.Und).String(s) }

// lower is str.lower(). It differs from strings.ToLower in the two letters Unicode maps by more than a table: U+0130
// becomes an i and a combining dot, and a capital sigma at the end of a word the final form.
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
