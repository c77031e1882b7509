package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// A Manifest says what made the predictions of a folder. Runs that would go on there must agree with all of it but
// Machine, and with those of its tasks that they run.
type Manifest struct {
	Benchmark string              `json:"benchmark"`
	Protocol  string              `json:"protocol,omitempty"`
	Model     ModelInfo           `json:"model"`
	Attention AttentionInfo       `json:"attention"`
	Precision string              `json:"precision"`
	KVDType   string              `json:"kv_dtype"`
	Code      string              `json:"code"` // version of the program
	Seed      uint64              `json:"seed"`
	Settings  map[string]any      `json:"settings"` // of the benchmark: files of prompts, lengths
	Tasks     map[string]TaskInfo `json:"tasks"`
	Shard     string              `json:"shard,omitempty"`   // i/n
	Merged    bool                `json:"merged,omitempty"`  // made by Merge, from shards
	Machine   map[string]any      `json:"machine,omitempty"` // what does not bind a later run
	Forced    []string            `json:"forced,omitempty"`  // what --force passed over
}

// ModelInfo names a model and what is in its folder.
type ModelInfo struct {
	Name   string          `json:"name"`
	SHA256 string          `json:"sha256"` // of the names and SHA-256 of its files
	Config json.RawMessage `json:"config,omitempty"`
}

// AttentionInfo is the attention of the prefill.
type AttentionInfo struct {
	Spec      string   `json:"spec"` // with every setting
	MinLength int      `json:"min_length,omitempty"`
	Layers    []string `json:"layers,omitempty"` // of layers that have another one
}

// TaskInfo is one task's part of the manifest.
type TaskInfo struct {
	File    string `json:"file"` // of the predictions
	Items   int    `json:"items"`
	Digest  string `json:"prompts_sha256"`
	Rules   Rules  `json:"rules"`
	Skipped int    `json:"skipped_rows,omitempty"`
}

const manifestName = "manifest.json"

// readManifest reads the manifest of a folder; the error is os.ErrNotExist where there is none.
func readManifest(folder string) (Manifest, error) {
	var m Manifest
	path := filepath.Join(folder, manifestName)
	data, err := os.ReadFile(path)
	if err != nil {
		return m, fmt.Errorf("read manifest: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("read manifest %s: %w; mend or remove it", path, err)
	}
	return m, nil
}

func (m Manifest) write(folder string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	return writeFile(filepath.Join(folder, manifestName), append(data, '\n'))
}

// agree joins m with the manifest that folder has from an earlier run. A difference is an error that names the field,
// or with force a note in the result.
func (m Manifest) agree(folder string, force bool) (Manifest, error) {
	old, err := readManifest(folder)
	if errors.Is(err, os.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	diff := m.differences(old)
	if len(diff) > 0 && !force {
		return m, fmt.Errorf("%s holds predictions of another run: %s; pass another --out, or --force to go on there",
			folder, strings.Join(diff, "; "))
	}
	m.Forced = append(old.Forced, diff...)
	tasks := maps.Clone(old.Tasks)
	maps.Copy(tasks, m.Tasks)
	m.Tasks = tasks
	return m, nil
}

// differences lists where two manifests disagree, the field first. Tasks count that both have.
func (m Manifest) differences(old Manifest) []string {
	a, b := m.fields(), old.fields()
	tasks, oldTasks := map[string]any{}, map[string]any{}
	for name, t := range m.Tasks {
		if o, ok := old.Tasks[name]; ok {
			tasks[name], oldTasks[name] = generic(t), generic(o)
		}
	}
	a["tasks"], b["tasks"] = tasks, oldTasks
	return differences("", a, b)
}

// fields are those that bind a later run.
func (m Manifest) fields() map[string]any {
	m.Machine, m.Forced, m.Tasks, m.Merged = nil, nil, nil, false
	f, _ := generic(m).(map[string]any)
	return f
}

// generic is v as encoding/json decodes it into an any.
func generic(v any) any {
	var out any
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		panic(err) // a manifest always encodes
	}
	return out
}

func differences(path string, now, before any) []string {
	a, isMap := now.(map[string]any)
	b, both := before.(map[string]any)
	if !isMap || !both {
		if reflect.DeepEqual(now, before) {
			return nil
		}
		return []string{fmt.Sprintf("%s is %s, there %s", strings.TrimPrefix(path, "."), short(now), short(before))}
	}
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	var all []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		all = append(all, differences(path+"."+k, a[k], b[k])...)
	}
	return all
}

// short prints a value for an error.
func short(v any) string {
	if v == nil {
		return "not set"
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if len(data) > 80 {
		return string(data[:77]) + "..."
	}
	return string(data)
}
