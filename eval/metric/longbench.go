// Package metric has the scorers of LongBench (arXiv 2308.14508), LongBench v2 (arXiv 2412.15204), RULER
// (arXiv 2404.06654) and InfiniteBench (arXiv 2402.13718), equal to the official Python ones to the last digit. Where
// those have quirks, so have these: scores are compared with published ones.
package metric

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/pbs-run/pbs-run/eval/jieba"
)

// A Protocol names one of the two public ways to run LongBench and LongBench v2.
type Protocol string

const (
	THUDM       Protocol = "thudm"       // the authors' scripts, github.com/THUDM/LongBench at 2e00731
	OpenCompass Protocol = "opencompass" // OpenCompass 0.4.2
)

// ParseProtocol reads the name of a protocol.
func ParseProtocol(s string) (Protocol, error) {
	switch p := Protocol(s); p {
	case THUDM, OpenCompass:
		return p, nil
	}
	return "", fmt.Errorf("unknown protocol %q; known are thudm and opencompass", s)
}

// LongBenchDatasets are the 21 data sets of LongBench in the order of its eval.py.
func LongBenchDatasets() []string {
	return []string{"narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh", "hotpotqa", "2wikimqa", "musique",
		"dureader", "gov_report", "qmsum", "multi_news", "vcsum", "trec", "triviaqa", "samsum", "lsht",
		"passage_retrieval_en", "passage_count", "passage_retrieval_zh", "lcc", "repobench-p"}
}

// LongBenchEDatasets are the 13 of them that LongBench-E has.
func LongBenchEDatasets() []string {
	return []string{"qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec", "triviaqa",
		"samsum", "passage_retrieval_en", "passage_count", "lcc", "repobench-p"}
}

// A Category is a part of a benchmark whose scores are averaged.
type Category struct {
	Name  string
	Tasks []string
}

// LongBenchCategories are LongBench's as OpenCompass groups them (configs/summarizers/groups/longbench.py).
func LongBenchCategories() []Category {
	return []Category{
		{"single-document-qa", []string{"narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh"}},
		{"multi-document-qa", []string{"hotpotqa", "2wikimqa", "musique", "dureader"}},
		{"summarization", []string{"gov_report", "qmsum", "multi_news", "vcsum"}},
		{"few-shot-learning", []string{"trec", "triviaqa", "samsum", "lsht"}},
		{"synthetic-tasks", []string{"passage_count", "passage_retrieval_en", "passage_retrieval_zh"}},
		{"code-completion", []string{"lcc", "repobench-p"}},
	}
}

// A LongBench scores predictions of LongBench. It may be used by several goroutines at once.
type LongBench struct {
	protocol Protocol
	limit    int
	words    *jieba.Segmenter
}

// NewLongBench returns a scorer. Where limit is not 0, ROUGE gives 0 where Python's rouge would hit that recursion limit
// (1000 unless a script sets another).
func NewLongBench(p Protocol, limit int) *LongBench { return &LongBench{p, limit, jieba.New()} }

// Score is the score of one row, 0 to 1 (more under OpenCompass, where it adds the answers up). classes are needed for
// trec and lsht only. An error means that the official script raises one.
func (l *LongBench) Score(dataset, prediction string, answers, classes []string) (float64, error) {
	terms, err := l.Terms(dataset, prediction, answers, classes)
	if err != nil {
		return 0, err
	}
	return l.RowScore(terms), nil
}

// RowScore is the score of the row that has those terms. OpenCompass knows percents only, so there it is what its
// evaluator says of the row alone, less the percent; this may change the last digit.
func (l *LongBench) RowScore(terms []float64) float64 {
	s := sum(0, terms)
	if l.protocol == OpenCompass {
		percent := s * 100
		return percent / 100
	}
	return s
}

// Terms are the numbers the official script adds to the sum of a data set for one row: the best score of any answer,
// 0 without answers; under OpenCompass, for class, number and count, the score of each answer.
func (l *LongBench) Terms(dataset, prediction string, answers, classes []string) ([]float64, error) {
	if slices.Contains([]string{"trec", "triviaqa", "samsum", "lsht"}, dataset) {
		prediction, _, _ = strings.Cut(strings.TrimLeft(prediction, "\n"), "\n")
	}
	best, each := 0.0, make([]float64, 0, len(answers))
	for _, answer := range answers {
		s, err := l.one(dataset, &prediction, answer, classes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dataset, err)
		}
		best = max(best, s)
		each = append(each, s)
	}
	switch dataset {
	case "trec", "lsht", "passage_count", "passage_retrieval_en", "passage_retrieval_zh":
		if l.protocol == OpenCompass {
			return each, nil
		}
	}
	return []float64{best}, nil
}

// one is the score against one answer. OpenCompass leaves the prediction cut into Chinese words for the next answer,
// which then cuts it again.
func (l *LongBench) one(dataset string, prediction *string, answer string, classes []string) (float64, error) {
	switch dataset {
	case "narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "triviaqa":
		return f1(normalize(*prediction), normalize(answer)), nil
	case "multifieldqa_zh":
		return f1(l.chineseWords(*prediction), l.chineseWords(answer)), nil
	case "gov_report", "qmsum", "multi_news", "samsum":
		return rougeL(*prediction, answer, l.calls(frames)), nil
	case "dureader", "vcsum":
		cut := strings.Join(l.words.Cut(*prediction), " ")
		if l.protocol == OpenCompass {
			*prediction = cut
		}
		return rougeL(cut, strings.Join(l.words.Cut(answer), " "), l.calls(framesChinese)), nil
	case "trec", "lsht":
		if classes == nil {
			return 0, fmt.Errorf("no all_classes")
		}
		return classHit(*prediction, answer, classes), nil
	case "passage_count":
		return numberHit(*prediction, answer), nil
	case "passage_retrieval_en":
		return paragraphHit(*prediction, answer, "Paragraph ")
	case "passage_retrieval_zh":
		return paragraphHit(*prediction, answer, "段落")
	case "lcc", "repobench-p":
		return fuzzRatio(codeLine(*prediction), answer, l.protocol == OpenCompass) / 100, nil
	}
	return 0, fmt.Errorf("no data set of LongBench; they are %s", strings.Join(LongBenchDatasets(), ", "))
}

// calls is how many calls the walk of rouge may take where Python's frames are taken, 0 for any number.
func (l *LongBench) calls(frames int) int {
	if l.limit == 0 {
		return 0
	}
	return max(1, l.limit-frames)
}

// chineseWords cuts first and normalizes then, so that a mark inside a word is no word boundary.
func (l *LongBench) chineseWords(text string) []string {
	var words []string
	for _, w := range l.words.Cut(text) {
		if w = normalizeChinese(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// classHit is classification_score: the share of the answer among the classes the prediction names. Of those the ones
// inside the answer's own name go, but the official loop removes from the list it walks along and so skips the class
// behind each removed one.
func classHit(prediction, answer string, classes []string) float64 {
	var named []string
	for _, c := range classes {
		if strings.Contains(prediction, c) {
			named = append(named, c)
		}
	}
	for i := 0; i < len(named); i++ {
		if c := named[i]; c != answer && strings.Contains(answer, c) {
			first := slices.Index(named, c)
			named = slices.Delete(named, first, first+1)
		}
	}
	if !slices.Contains(named, answer) {
		return 0
	}
	return 1 / float64(len(named))
}

// numberHit is the share of the prediction's numbers that are the answer, digit by digit.
func numberHit(prediction, answer string) float64 {
	numbers := digitRuns(prediction)
	hits := 0
	for _, n := range numbers {
		if n == answer {
			hits++
		}
	}
	if hits == 0 {
		return 0
	}
	return float64(hits) / float64(len(numbers))
}

// paragraphHit is numberHit for the number behind the first word in the answer that has one.
func paragraphHit(prediction, answer, word string) (float64, error) {
	for rest := answer; ; {
		var found bool
		if _, rest, found = strings.Cut(rest, word); !found {
			return 0, fmt.Errorf("answer %.40q: no number behind %q", answer, strings.TrimSpace(word))
		}
		end := strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsDigit(r) })
		if end < 0 {
			end = len(rest)
		}
		if end > 0 {
			return numberHit(prediction, rest[:end]), nil
		}
	}
}

// codeLine is the first line of code: the first without a backtick, # and //.
func codeLine(prediction string) string {
	for line := range strings.SplitSeq(strings.TrimLeft(prediction, "\n"), "\n") {
		if !strings.ContainsAny(line, "`#") && !strings.Contains(line, "//") {
			return line
		}
	}
	return ""
}
