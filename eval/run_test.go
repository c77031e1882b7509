package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reader answers a needle prompt by looking the key up in it.
func reader(ctx context.Context, p Prompt, maxNew int) (Output, error) {
	_, key, _ := strings.Cut(p.Prefix, "number for ")
	key, _, _ = strings.Cut(key, " mentioned")
	_, value, _ := strings.Cut(p.User, "numbers for "+key+" is: ")
	n, _ := toyCount(p)
	return Output{Text: " " + value[:7] + ".<", PromptTokens: n, NewTokens: 9, TTFT: time.Second, Total: 2 * time.Second}, nil
}

func options(samples int) RULEROptions {
	return RULEROptions{Tasks: []string{"niah_single_2", "niah_multikey_1"}, Length: 1000, Samples: samples, Seed: 5, Essay: toyEssay(100)}
}

func readLines(t *testing.T, path string) []prediction {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []prediction
	for line := range bytes.Lines(data) {
		var p prediction
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatalf("%s line %d: %v", path, len(lines)+1, err)
		}
		lines = append(lines, p)
	}
	return lines
}

func TestRunRULER(t *testing.T) {
	opt := options(6)
	opt.Out = filepath.Join(t.TempDir(), "new", "folder")
	var told []Progress
	report, err := RunRULER(context.Background(), opt, reader, toyCount, func(p Progress) { told = append(told, p) })
	if err != nil {
		t.Fatal(err)
	}
	if report.Score != 100 || len(report.Tasks) != 2 || len(told) != 12 || told[11] != (Progress{"niah_multikey_1", 6, 6, 0, 100}) {
		t.Errorf("report %+v, progress %+v", report, told)
	}
	for i, task := range report.Tasks {
		if task.Task != opt.Tasks[i] || task.Length != 1000 || task.Samples != 6 || task.Score != 100 || task.Nulls != 0 || task.Failed != 0 ||
			task.MeanTTFTSeconds != 1 || task.MeanPromptTokens < 820 || task.MeanPromptTokens > 872 || task.Seconds <= 0 {
			t.Errorf("task report %+v", task)
		}
		lines := readLines(t, opt.file(task.Task))
		if len(lines) != 6 {
			t.Fatalf("%d lines", len(lines))
		}
		for i, p := range lines {
			if p.Index != i || p.Pred != " "+p.Outputs[0]+".<" || p.Score != 1 || p.NewTokens != 9 || p.Seconds != 2 ||
				p.Length > 1000 || p.Length < 950 || !strings.HasPrefix(p.Input, "A special magic number") || !strings.HasPrefix(p.AnswerPrefix, " The special") {
				t.Errorf("%s line %d: %+v", task.Task, i, p)
			}
		}
	}
	if _, err := RunRULER(context.Background(), opt, reader, toyCount, nil); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("second run into the same folder: %v", err)
	}
}

// One sample fails, one comes back empty, one is wrong: each counts as wrong and is told apart.
func TestRunRULERWithBadSamples(t *testing.T) {
	opt := options(7)
	opt.Tasks, opt.Out = []string{"niah_multikey_1"}, t.TempDir()
	calls := 0
	gen := func(ctx context.Context, p Prompt, maxNew int) (Output, error) {
		out, _ := reader(ctx, p, maxNew)
		switch calls++; calls - 1 {
		case 1:
			return Output{Text: out.Text}, errors.New("out of memory")
		case 2:
			out.Text = " \x1f"
		case 4:
			out.Text = "no idea"
		}
		return out, nil
	}
	report, err := RunRULER(context.Background(), opt, gen, toyCount, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := report.Tasks[0]
	if got.Samples != 7 || got.Score != 57.14 || report.Score != 57.14 || got.Nulls != 2 || got.Failed != 1 ||
		got.FirstError != "sample 1: out of memory" || got.MeanTTFTSeconds != 1 {
		t.Errorf("report %+v", got)
	}
	lines := readLines(t, opt.file("niah_multikey_1"))
	if len(lines) != 7 || lines[1].Error != "out of memory" || lines[1].Pred != "" || lines[1].Score != 0 || lines[2].Error != "" || lines[2].Pred != " \x1f" {
		t.Errorf("lines %+v", lines[1:3])
	}
}

func TestRunRULERStopped(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	opt := options(5)
	opt.Out = t.TempDir()
	calls := 0
	gen := func(ctx context.Context, p Prompt, maxNew int) (Output, error) {
		if calls++; calls == 8 {
			stop()
			return Output{}, ctx.Err()
		}
		return reader(ctx, p, maxNew)
	}
	report, err := RunRULER(ctx, opt, gen, toyCount, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if len(report.Tasks) != 2 || report.Tasks[1].Samples != 2 || report.Tasks[1].Failed != 0 || report.Score != 100 {
		t.Errorf("report %+v", report)
	}
	if n := len(readLines(t, opt.file("niah_multikey_1"))); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

func TestRunRULERRefuses(t *testing.T) {
	never := func(context.Context, Prompt, int) (Output, error) {
		t.Error("generated before the options were checked")
		return Output{}, nil
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*RULEROptions){
		"no tasks":      func(o *RULEROptions) { o.Tasks = nil },
		`task "qa_9"`:   func(o *RULEROptions) { o.Tasks = []string{"niah_single_2", "qa_9"} },
		"named twice":   func(o *RULEROptions) { o.Tasks = []string{"niah_single_2", "niah_single_2"} },
		"--samples 0":   func(o *RULEROptions) { o.Samples = 0 },
		"too short":     func(o *RULEROptions) { o.Length = 100 },
		"no words":      func(o *RULEROptions) { o.Essay = "" },
		"--out folder:": func(o *RULEROptions) { o.Out = filepath.Join(file, "below") },
	} {
		opt := options(2)
		change(&opt)
		report, err := RunRULER(context.Background(), opt, never, toyCount, nil)
		if err == nil || !strings.Contains(err.Error(), want) || len(report.Tasks) != 0 {
			t.Errorf("%s: error %v, report %+v", want, err, report)
		}
	}
	opt := options(2)
	opt.Out = t.TempDir()
	if err := os.WriteFile(opt.file("niah_multikey_1"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := RunRULER(context.Background(), opt, never, toyCount, nil); err == nil || !strings.Contains(err.Error(), "niah_multikey_1.jsonl exists") {
		t.Errorf("file of the second task: %v", err)
	}
	if f, err := createNew(opt.file("niah_multikey_1")); err == nil {
		f.Close()
		t.Error("createNew opened a file that was there")
	}
	other := func(ctx context.Context, p Prompt, maxNew int) (Output, error) { return Output{PromptTokens: 1}, nil }
	if _, err := RunRULER(context.Background(), options(2), other, toyCount, nil); err == nil || !strings.Contains(err.Error(), "render alike") {
		t.Errorf("generate and count disagree: %v", err)
	}
}

func TestWriteErrorStopsTheRun(t *testing.T) {
	f, err := os.Open(os.DevNull) // not open for writing
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeLine(f, prediction{Index: 3}); err == nil || !strings.Contains(err.Error(), "write prediction 3") {
		t.Errorf("error %v", err)
	}
}

func TestReadEssay(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"document.txt": "Some text.", "empty": " \n", "binary": "a \xff"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	model := filepath.Join(dir, "model")
	if got, err := ReadEssay("", model); got != "Some text." || err != nil {
		t.Errorf("beside the model: %q, %v", got, err)
	}
	for want, path := range map[string]string{"no words": "empty", "UTF-8": "binary", "no such": "absent"} {
		if _, err := ReadEssay(filepath.Join(dir, path), model); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := ReadEssay("", dir); err == nil || !strings.Contains(err.Error(), "--essay FILE") {
		t.Errorf("no text beside the model: %v", err)
	}
}
