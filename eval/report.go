package eval

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pbs-run/pbs-run/eval/metric"
	"github.com/pbs-run/pbs-run/eval/score"
)

// A Result is what one method's predictions are worth. results.json holds it. It has no times, so that the same answers
// make the same file.
type Result struct {
	Name     string        `json:"name"` // of the method, as given
	Manifest Manifest      `json:"manifest"`
	Complete bool          `json:"complete"` // all samples that were asked for are done
	Counts   []TaskCount   `json:"counts"`
	Scores   *score.Report `json:"report,omitempty"` // nil when nothing is done
	Folder   string        `json:"-"`
}

const resultsName = "results.json"

// predictionsPath is where the predictions of a manifest's run lie, relative to its folder.
func (m Manifest) predictionsPath() string {
	switch m.Benchmark {
	case "longbench-e":
		return filepath.Join("pred_e", m.Model.Name)
	case "longbench-v2":
		return "results"
	}
	return filepath.Join("pred", m.Model.Name)
}

// score reads the predictions below folder and scores them. samples, if not nil, gets each with its own score.
func (m Manifest) score(ctx context.Context, folder string, samples io.Writer) (*score.Report, error) {
	path := m.predictionsPath()
	o := score.Options{Benchmark: m.Benchmark, Pred: filepath.Join(folder, path), Samples: samples}
	if m.Benchmark == "longbench" || m.Benchmark == "longbench-v2" {
		o.Protocol = metric.Protocol(m.Protocol)
	}
	r, err := score.Score(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("score: %w", err)
	}
	r.Pred, r.Missing = path, nil // of the published set; Counts has what was asked for
	return r, nil
}

// Report scores what a method's folder holds, writes results.json there, and returns it.
func Report(ctx context.Context, folder, name string, counts []TaskCount) (Result, error) {
	r := Result{Name: name, Counts: counts, Complete: true, Folder: folder}
	done := 0
	for _, c := range counts {
		done += c.Done
		r.Complete = r.Complete && c.Done == c.Items
	}
	var err error
	if r.Manifest, err = readManifest(folder); err != nil {
		return r, err
	}
	if done > 0 {
		if r.Scores, err = r.Manifest.score(ctx, folder, nil); err != nil {
			return r, err
		}
	}
	data, err := json.MarshalIndent(withoutMachine(r), "", "  ")
	if err != nil {
		return r, fmt.Errorf("encode results: %w", err)
	}
	return r, writeFile(filepath.Join(folder, resultsName), append(data, '\n'))
}

// readResult reads what Report wrote.
func readResult(folder string) (Result, error) {
	r := Result{Folder: folder}
	path := filepath.Join(folder, resultsName)
	data, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read results: %w", err)
	}
	var file struct {
		Name     string
		Manifest Manifest
		Complete bool
		Counts   []TaskCount
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return r, fmt.Errorf("read results %s: %w", path, err)
	}
	r.Name, r.Manifest, r.Complete, r.Counts = file.Name, file.Manifest, file.Complete, file.Counts
	return r, nil
}

// withoutMachine leaves out what differs from machine to machine though the answers do not.
func withoutMachine(r Result) Result {
	r.Manifest.Machine = nil
	return r
}

// methodFolders lists the folders below out that have a manifest.
func methodFolders(out string) ([]string, error) {
	entries, err := os.ReadDir(out)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(out, e.Name(), manifestName)); e.IsDir() && err == nil {
			all = append(all, filepath.Join(out, e.Name()))
		}
	}
	return all, nil
}
