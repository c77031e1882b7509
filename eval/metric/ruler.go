package metric

import "strings"

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
	return strip(strings.Map(func(r rune) rune {
		if r < 32 {
			return '\n'
		}
		return r
	}, pred))
}

// Percent is the mean of row scores (their sum over n) as RULER prints it, in percent with two decimals.
func Percent(sum float64, n int) float64 {
	if n == 0 {
		return 0
	}
	mean := sum / float64(n)
	return Round(mean*100, 2)
}
