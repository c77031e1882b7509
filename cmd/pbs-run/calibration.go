package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

const (
	// defaultMethod is what generate takes, and auto where a prompt is long enough: the paper's but for the end of the prompt, where a
	// question stands.
	defaultMethod = "pbs:last=2"
	// autoDefault is the length below which auto is dense where nobody has calibrated. It was chosen, not measured: PBS-Attn's
	// authors report no gain at 8K and some at 16K on their GPU (arXiv 2510.21270).
	autoDefault = 8192

	minLengthHelp = "attend densely below this many `tokens`; 0 leaves it to the method"
)

// calibration is the length from which sparse prefill beats dense on one device, for one model.
type calibration struct {
	calibrationKey
	Method    string  `json:"method"`
	MinLength int     `json:"min_length"` // attend densely below
	Measured  []point `json:"measured"`
	Prompt    string  `json:"prompt"` // what the prompts were made of
}

// calibrationKey is what the break-even length depends on.
type calibrationKey struct {
	ISA       string `json:"isa"` // the GPU's name on CUDA
	Threads   int    `json:"threads"`
	Precision string `json:"precision"`
	KVDType   string `json:"kv_dtype"`
	Hidden    int    `json:"hidden_size"`
	Inter     int    `json:"intermediate_size"`
	Layers    int    `json:"num_hidden_layers"`
	Heads     int    `json:"num_attention_heads"`
	KVHeads   int    `json:"num_key_value_heads"`
	HeadDim   int    `json:"head_dim"`
}

// point is one length at which full and sparse prefill were timed.
type point struct {
	Tokens  int     `json:"tokens"`
	Full    float64 `json:"full_seconds"`
	Sparse  float64 `json:"sparse_seconds"`
	Density float64 `json:"density"`
}

func (e *engine) calibrationKey(cfg model.Config) calibrationKey {
	return calibrationKey{
		ISA: e.dev.ISA(), Threads: e.dev.Threads(), Precision: dtypeFlag(e.dev.Compute()), KVDType: e.flags.kvDType,
		Hidden: cfg.Hidden, Inter: cfg.Intermediate, Layers: cfg.Layers, Heads: cfg.Heads, KVHeads: cfg.KVHeads, HeadDim: cfg.HeadDim,
	}
}

// breakEven is the length from which --attention auto is sparse. Where nobody has calibrated it says so.
func (e *engine) breakEven(cfg model.Config) (int, error) {
	path, err := calibrationPath()
	if err != nil {
		return 0, fmt.Errorf("--attention auto: %w; give --min-length", err)
	}
	list, err := readCalibrations(path)
	if err != nil {
		return 0, fmt.Errorf("--attention auto: %w, or give --min-length", err)
	}
	method, err := attention.Parse(defaultMethod)
	if err != nil {
		return 0, err
	}
	key := e.calibrationKey(cfg)
	for _, c := range list {
		if c.calibrationKey == key && c.Method == method.String() && c.MinLength > 0 {
			return c.MinLength, nil
		}
	}
	fmt.Fprintf(os.Stderr, "pbs-run: --attention auto: dense below %d tokens, a default that was not measured on this device with this model; pbs-run bench prefill --calibrate measures it\n", autoDefault)
	return autoDefault, nil
}

// store writes the break-even length for --attention auto.
func (b *prefillBench) store(r *benchReport) error {
	path, err := calibrationPath()
	if err != nil {
		return fmt.Errorf("--calibrate: %w", err)
	}
	c := calibration{calibrationKey: b.e.calibrationKey(b.e.Config), Method: r.BreakEven[0].Attention, Prompt: r.Prompt}
	c.Measured = r.BreakEven[0].points
	if c.MinLength = r.BreakEven[0].Tokens; c.MinLength == 0 {
		c.MinLength = c.Measured[len(c.Measured)-1].Tokens + 1
		fmt.Fprintf(b.stderr, "pbs-run: %s was not faster at any length measured: --attention auto will be dense up to the longest, %d tokens\n", defaultMethod, c.MinLength-1)
	}
	if b.tokens == nil {
		fmt.Fprintln(b.stderr, "pbs-run: calibrated on random tokens, to which attention is flatter than to text; --prompt-file FILE takes text")
	}
	if err := saveCalibration(path, c); err != nil {
		return err
	}
	r.Calibration = path
	return nil
}

// checkCalibrations finds what would keep --calibrate from storing its result, before anything is measured.
func checkCalibrations() error {
	path, err := calibrationPath()
	if err == nil {
		_, err = readCalibrations(path)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return fmt.Errorf("--calibrate: %w", err)
	}
	return nil
}

func calibrationPath() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(dir, "pbs-run", "calibration.json"), nil
}

// maxCalibrationBytes bounds the file; an entry has less than a kilobyte.
const maxCalibrationBytes = 4 << 20

func readCalibrations(path string) ([]calibration, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []calibration
	if err := loader.ReadJSON(path, maxCalibrationBytes, &list); err != nil {
		return nil, fmt.Errorf("%w; delete the file", err)
	}
	return list, nil
}

// saveCalibration puts c in the place of what was known for its key.
func saveCalibration(path string, c calibration) error {
	list, err := readCalibrations(path)
	if err != nil {
		return fmt.Errorf("--calibrate: %w", err)
	}
	list = append(slices.DeleteFunc(list, func(o calibration) bool { return o.calibrationKey == c.calibrationKey }), c)
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	if err := writeWhole(path, append(b, '\n')); err != nil {
		return fmt.Errorf("--calibrate: %w", err)
	}
	return nil
}

// writeWhole writes a file that is never seen half written.
func writeWhole(path string, data []byte) error {
	path, err := loader.OutFile(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".incomplete-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // does nothing once it has its name
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
