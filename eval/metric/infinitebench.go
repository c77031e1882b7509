package metric

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// InfiniteBenchTasks are the 12 tasks of InfiniteBench in the order of its compute_scores.py.
func InfiniteBenchTasks() []string {
	return []string{"passkey", "number_string", "kv_retrieval", "longdialogue_qa_eng", "longbook_sum_eng",
		"longbook_choice_eng", "longbook_qa_eng", "longbook_qa_chn", "math_find", "math_calc", "code_run", "code_debug"}
}

// InfiniteBench scores one prediction of a task, 0 to 1, as compute_scores.py (github.com/OpenBMB/InfiniteBench at
// 88b3daa) does. label is the JSON value of the row's label or ground_truth; model is the name its predictions were made
// under, of which "gpt4" alone counts. An error means that the official function raises one; such a row counts 0.
func InfiniteBench(task, prediction string, label json.RawMessage, model string) (float64, error) {
	l, err := parseLabel(label)
	if err != nil {
		return 0, fmt.Errorf("%s: label: %w", task, err)
	}
	score, err := infiniteBench(task, prediction, l, model)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", task, err)
	}
	return score, nil
}

func infiniteBench(task, prediction string, l label, model string) (float64, error) {
	switch task {
	case "passkey", "number_string":
		first := ""
		if numbers := asciiDigits(prediction); len(numbers) > 0 {
			first = numbers[0]
		}
		text, ok := l.first().(string)
		return hit(ok && text == first), nil
	case "kv_retrieval", "kv_retrieval_prefix", "kv_retrieval_both":
		text, ok := l.value.(string)
		return hit(ok && slices.Contains(fields(blank(prediction, "\n:\"'.,?!{}")), text)), nil
	case "longdialogue_qa_eng":
		names, err := l.items()
		if err == nil && len(names) == 0 {
			err = errors.New("empty label")
		}
		if err != nil {
			return 0, err
		}
		words := fields(upper(blank(strip(prediction), "\n:\"'.,?!{}")))
		name, ok := names[0].(string)
		return hit(ok && slices.Contains(words, name)), nil
	case "longbook_sum_eng":
		return l.best(func(reference string) float64 { return rougeLsum(prediction, reference) })
	case "longbook_choice_eng":
		return choice(prediction, l)
	case "longbook_qa_eng":
		return l.bestItem(func(answer string) float64 { return f1(normalize(prediction), normalize(answer)) })
	case "longbook_qa_chn":
		return l.bestItem(func(answer string) float64 {
			return f1([]rune(normalizeChinese(prediction)), []rune(normalizeChinese(answer)))
		})
	case "math_find":
		return mathFind(prediction, l)
	case "math_calc":
		return mathCalc(prediction, l, model)
	case "code_run":
		return hit(codeRun(prediction, l)), nil
	case "code_debug":
		return codeDebug(prediction, l)
	}
	return 0, fmt.Errorf("no task of InfiniteBench; they are %s", strings.Join(InfiniteBenchTasks(), ", "))
}

func hit(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}

// blank puts a blank for each of the characters.
func blank(s, chars string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(chars, r) {
			return ' '
		}
		return r
	}, s)
}

// squeeze makes each run of blanks one.
func squeeze(s string) string {
	var b strings.Builder
	before := rune(0)
	for _, r := range s {
		if r != ' ' || before != ' ' {
			b.WriteRune(r)
		}
		before = r
	}
	return b.String()
}

// after looks for the prefixes in order. It returns what stands behind the first one found, without the character next
// to it, and whether there is that character.
func after(s string, prefixes ...string) (rest string, found, ok bool) {
	for _, p := range prefixes {
		if _, rest, found = strings.Cut(s, p); found {
			for i := range rest {
				if i > 0 {
					return rest[i:], true, true
				}
			}
			return "", true, rest != ""
		}
	}
	return "", false, false
}

// choice is get_score_one_longbook_choice_eng.
func choice(prediction string, l label) (float64, error) {
	prediction = strip(prediction)
	if prediction == "" {
		return 0, nil
	}
	if c := prediction[0]; 'A' <= c && c <= 'D' {
		return hit(l.holds(string(c))), nil
	}
	if l.holds(prediction) {
		return 1, nil
	}
	prediction = squeeze(blank(prediction, "\n\"'.,?!{}"))
	if rest, found, ok := after(prediction, "answer is:", "answer:", "answer is", "option is"); found {
		if !ok {
			return 0, nil
		}
		texts, err := l.texts()
		return hit(slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(rest, s) })), err
	}
	for _, word := range fields(prediction) {
		if strings.Contains("ABCD", word) {
			return hit(l.holds(word)), nil
		}
	}
	return 0, nil
}

// codeDebug is get_score_one_code_debug. Its label is the function's name and the letter.
func codeDebug(prediction string, l label) (float64, error) {
	texts, err := l.texts()
	if err == nil && len(texts) < 2 {
		err = errors.New("label is not [option, letter]")
	}
	if err != nil {
		return 0, err
	}
	name, letter := texts[0], texts[1]
	prediction = strip(prediction)
	if start := firstRunes(prediction, 2); start == letter+"." || start == letter+":" {
		return 1, nil
	}
	prediction = blank(prediction, "\n`'\"-*")
	prediction = strings.ReplaceAll(strings.ReplaceAll(prediction, "Option", " "), "option", " ")
	rest, _, ok := after(squeeze(prediction), "answer is:", "is:", "answer:", "correct option is:")
	return hit(ok && (strings.HasPrefix(rest, letter) || strings.HasPrefix(rest, name))), nil
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// codeRun is get_score_one_code_run: the last word as Python's int reads it.
func codeRun(prediction string, l label) bool {
	words := fields(blank(strip(prediction), "\n.`'\":"))
	if len(words) == 0 {
		return false
	}
	n, err := parseInt(words[len(words)-1])
	want, ok := l.first().(json.Number)
	return err == nil && ok && sameNumber(want, n)
}

// mathFind is get_score_one_math_find: the first number of the prediction. With an integer for a label a number with a
// decimal point is an error.
func mathFind(prediction string, l label) (float64, error) {
	number, ok := l.first().(json.Number)
	if !ok {
		return 0, fmt.Errorf("label %v: want a number", l.value)
	}
	first := regexp.MustCompile(`\p{Nd}+\.\p{Nd}+|\p{Nd}+`).FindString(prediction)
	if first == "" {
		return 0, nil
	}
	if isInt(number) {
		n, err := parseInt(first)
		return hit(err == nil && sameNumber(number, n)), err
	}
	want, err := number.Float64()
	got, err2 := strconv.ParseFloat(toASCII(first), 64)
	if errors.Is(err2, strconv.ErrRange) {
		err2 = nil
	}
	return hit(want == got), errors.Join(err, err2)
}

// mathCalc is get_score_one_math_calc: the share of the label's numbers, from the first on, that the prediction gives.
func mathCalc(prediction string, l label, model string) (float64, error) {
	want, ok := l.value.([]any)
	if !ok || len(want) == 0 {
		return 0, errors.New("label is not a list of numbers")
	}
	if list, ok := want[0].([]any); ok {
		want = list
	}
	if len(want) == 0 {
		return 0, errors.New("label is an empty list")
	}
	got := asciiDigits(prediction)
	if slices.ContainsFunc(got, func(s string) bool { return len(s) > intDigits }) {
		return 0, fmt.Errorf("a number of more than %d digits", intDigits)
	}
	if model == "gpt4" && len(got) > 0 { // its prompt makes it write the first number twice
		got = got[1:]
	}
	same := 0
	for same < len(want) && same < len(got) {
		n, err := parseInt(got[same])
		number, ok := want[same].(json.Number)
		if err != nil || !ok || !sameNumber(number, n) {
			break
		}
		same++
	}
	return float64(same) / float64(len(want)), nil
}
