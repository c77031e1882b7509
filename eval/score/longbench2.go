package score

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pbs-run/pbs-run/eval/metric"
)

// questions is the size of LongBench v2.
const questions = 503

// A judged row of LongBench v2 is what result.py or OpenCompass needs of it.
type judged struct {
	difficulty, length string
	letter             string // "" for none
	right              bool
}

// longBench2 is result.py: a line of six columns for each file. OpenCompass names the columns otherwise.
func (s *scorer) longBench2() error {
	sets, err := s.read(layout{what: "model", find: func(base string) string {
		return strings.TrimSuffix(base, filepath.Ext(base))
	}})
	if err != nil {
		return err
	}
	columns, decimals := []string{"Overall", "Easy", "Hard", "Short", "Medium", "Long"}, 1
	if s.Protocol == metric.OpenCompass {
		decimals = 2
		columns = []string{"accuracy", "accuracy_easy", "accuracy_hard", "accuracy_short", "accuracy_medium", "accuracy_long"}
	}
	info, err := os.Stat(s.Pred)
	if err != nil {
		return err
	}
	s.report.Scores = Table{Columns: columns, decimals: decimals, flat: !info.IsDir(), sparse: s.Protocol == metric.OpenCompass}
	if s.Protocol == metric.THUDM {
		s.report.Compensated = s.report.Scores
	}
	s.report.Missing, s.report.Unread = make(map[string]int), make(map[string]int)
	letters := metric.NewLongBench2(s.Protocol)
	for _, set := range sets {
		rows, err := s.judge(letters, set)
		if err != nil {
			return err
		}
		if n := questions - len(rows); n > 0 {
			s.report.Missing[set.name] = n
		}
		s.columns(set.name, rows)
	}
	return nil
}

// judge reads the rows of a file.
func (s *scorer) judge(letters *metric.LongBench2, set set) ([]judged, error) {
	rows, odd := make([]judged, len(set.rows)), make([]bool, len(set.rows))
	err := s.each(set, func(i int) (err error) {
		rows[i], odd[i], err = s.judgeRow(letters, set.rows[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	n, loose := 0, 0
	for i, r := range set.rows {
		if rows[i].difficulty == "" || rows[i].length == "" {
			loose++
		}
		var letter *string
		if rows[i].letter != "" {
			letter = &rows[i].letter
		} else {
			s.report.Unread[set.name]++
		}
		score := 0
		if rows[i].right {
			score = 1
		}
		if odd[i] {
			n++
		}
		if err := s.sample(r, set.name, "model", map[string]any{"letter": letter, "score": score}); err != nil {
			return nil, err
		}
	}
	if loose > 0 {
		s.report.Warnings = append(s.report.Warnings,
			fmt.Sprintf("%s: %d rows have no difficulty or no length and are in no column of it", set.name, loose))
	}
	if n > 0 {
		s.report.Warnings = append(s.report.Warnings,
			fmt.Sprintf("%s: %d rows have a judge that is not whether pred is the answer; judge counts, as in result.py", set.name, n))
	}
	return rows, nil
}

// judgeRow reads a row. result.py counts the judge that is written in it; without one the letter is compared, that of
// pred or else that of the response. OpenCompass finds its own letter in the response.
func (s *scorer) judgeRow(letters *metric.LongBench2, r row) (j judged, odd bool, err error) {
	read := func(to any, names ...string) {
		if err == nil {
			err = r.must(to, names...)
		}
	}
	for name, to := range map[string]*string{"difficulty": &j.difficulty, "length": &j.length} {
		if _, ok := r.fields[name]; ok {
			read(to, name)
		}
	}
	var answer, response string
	_, hasJudge := r.fields["judge"]
	hasJudge = hasJudge && s.Protocol == metric.THUDM
	pred, hasPred := r.fields["pred"]
	_, hasResponse := r.fields["response"]
	if !hasJudge || r.fields["answer"] != nil {
		read(&answer, "answer")
	}
	switch {
	case hasResponse && (s.Protocol == metric.OpenCompass || !hasPred):
		read(&response, "response")
		j.letter = letters.Letter(response)
	case hasPred:
		if string(pred) != "null" {
			read(&j.letter, "pred")
		}
	case !hasJudge:
		read(&response, "response", "pred")
	}
	j.right = j.letter != "" && j.letter == answer
	if hasJudge {
		right := j.right
		j.right = string(r.fields["judge"]) == "1" // int(judge) in result.py
		if !j.right && string(r.fields["judge"]) != "0" {
			read(&j.right, "judge")
		}
		odd = answer != "" && (hasPred || hasResponse) && j.right != right
	}
	return j, odd, err
}

// columns counts the rows into the six columns. In result.py all that is not easy is hard, and all that is neither short
// nor medium is long; OpenCompass leaves other words out.
func (s *scorer) columns(name string, rows []judged) {
	var all, right [6]int
	var guesses [6]float64 // right ones, and a quarter for each without a letter
	for _, r := range rows {
		in := []int{0}
		switch {
		case r.difficulty == "easy":
			in = append(in, 1)
		case r.difficulty == "hard" || s.Protocol == metric.THUDM && r.difficulty != "":
			in = append(in, 2)
		}
		switch {
		case r.length == "short":
			in = append(in, 3)
		case r.length == "medium":
			in = append(in, 4)
		case r.length == "long" || s.Protocol == metric.THUDM && r.length != "":
			in = append(in, 5)
		}
		for _, c := range in {
			all[c]++
			if r.right {
				right[c]++
			}
			if r.letter == "" {
				guesses[c] += 0.25
			} else if r.right {
				guesses[c]++
			}
		}
	}
	line, compensated := Line{Name: name}, Line{Name: name}
	for c, n := range all {
		if n == 0 {
			line.Scores, compensated.Scores = append(line.Scores, nil), append(compensated.Scores, nil)
			continue
		}
		score := float64(right[c]) / float64(n) * 100
		if s.Protocol == metric.THUDM {
			score = metric.Round(float64(100*right[c])/float64(n), 1)
		}
		guessed := metric.Round(100*guesses[c]/float64(n), 1)
		line.Scores, compensated.Scores = append(line.Scores, &score), append(compensated.Scores, &guessed)
	}
	s.report.Scores.Lines = append(s.report.Scores.Lines, line)
	if s.Protocol == metric.THUDM {
		s.report.Compensated.Lines = append(s.report.Compensated.Lines, compensated)
	}
}
