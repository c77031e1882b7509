package eval

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// timesName is the file of a method's folder that has what each sample took. It is kept apart from the predictions,
// which are then the same bytes whenever the answers are the same.
const timesName = "times.jsonl"

// A Timing is a line of times.jsonl.
type Timing struct {
	Task         string  `json:"task"`
	ID           string  `json:"_id"`
	PromptTokens int     `json:"prompt_tokens"`
	NewTokens    int     `json:"new_tokens"`
	TTFTSeconds  float64 `json:"ttft_seconds"`
	Seconds      float64 `json:"seconds"`
	Failed       bool    `json:"failed,omitempty"`
}

// times is the open file. Nothing is lost with a line of it, so no error ends a run.
type times struct{ file *os.File }

func openTimes(path string) (*times, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open times: %w", err)
	}
	return &times{f}, nil
}

func (t *times) add(x Timing) {
	if line, err := encodeLine(x); err == nil {
		_, _ = t.file.Write(line) // see times
	}
}

func (t *times) close() error { return t.file.Close() }

// readTimes returns the last Timing of each sample by task. Lines that a kill has torn are passed over.
func readTimes(path string) (map[string]map[string]Timing, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read times: %w", err)
	}
	defer f.Close()
	all := map[string]map[string]Timing{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var t Timing
		if json.Unmarshal(lines.Bytes(), &t) != nil {
			continue
		}
		if all[t.Task] == nil {
			all[t.Task] = map[string]Timing{}
		}
		all[t.Task][t.ID] = t
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read times %s: %w", path, err)
	}
	return all, nil
}
