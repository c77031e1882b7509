// Package model is the decoder: its configuration, its weights, one forward pass that serves prefill and decode, and the
// sampling of tokens. Llama-3.x and Qwen2.5 differ in data (biases, RoPE frequencies, tied head), not in code.
package model

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/loader"
)

// Config is what the engine uses of a Hugging Face config.json, checked and with defaults filled in.
type Config struct {
	Architecture string // LlamaForCausalLM or Qwen2ForCausalLM
	Hidden       int
	Intermediate int
	Layers       int
	Heads        int
	KVHeads      int
	HeadDim      int
	Vocab        int
	Eps          float32
	TiedHead     bool
	MaxPositions int // positions the model was trained for, without extrapolation
	Rope         Rope
	EOS          []int32 // from generation_config.json, else config.json
	Sampling     Sampling
	biases       biases
}

// biases says which linear layers must have one. A bias that a checkpoint has is used either way.
type biases struct{ qkv, out, mlp bool }

// Rope describes the rotary frequencies (arXiv 2104.09864): theta^(-2i/headDim), rescaled by the llama3 rule where Factor
// is not 0.
type Rope struct {
	Theta          float64
	Factor         float64
	LowFreqFactor  float64
	HighFreqFactor float64
	OriginalMax    int
}

// configFile mirrors config.json. Keys that only describe training (dropout, initializer_range), the writer
// (transformers_version) or defaults of other programs (use_cache, pretraining_tp) are left out on purpose.
type configFile struct {
	Architectures    []string  `json:"architectures"`
	HiddenSize       *int      `json:"hidden_size"`
	IntermediateSize *int      `json:"intermediate_size"`
	NumLayers        *int      `json:"num_hidden_layers"`
	NumHeads         *int      `json:"num_attention_heads"`
	NumKVHeads       *int      `json:"num_key_value_heads"`
	HeadDim          *int      `json:"head_dim"`
	VocabSize        *int      `json:"vocab_size"`
	MaxPositions     *int      `json:"max_position_embeddings"`
	RMSNormEps       *float64  `json:"rms_norm_eps"`
	RopeTheta        *float64  `json:"rope_theta"`
	RopeScaling      *ropeFile `json:"rope_scaling"`
	RopeParameters   *ropeFile `json:"rope_parameters"` // transformers 5: theta and scaling in one
	HiddenAct        *string   `json:"hidden_act"`
	Tied             bool      `json:"tie_word_embeddings"`
	AttentionBias    bool      `json:"attention_bias"`
	MLPBias          bool      `json:"mlp_bias"`
	EOS              idList    `json:"eos_token_id"`
	UseSlidingWindow bool      `json:"use_sliding_window"`
	LayerTypes       []string  `json:"layer_types"`
	PartialRotary    *float64  `json:"partial_rotary_factor"`
	Quantization     any       `json:"quantization_config"`
	// Qwen2.5-1M: beyond original_max_position_embeddings its quality needs dual chunk attention, which this engine does not
	// have, so that is the context limit.
	DualChunk *struct {
		OriginalMax *int `json:"original_max_position_embeddings"`
	} `json:"dual_chunk_attention_config"`
}

type ropeFile struct {
	RopeType    *string  `json:"rope_type"`
	Type        *string  `json:"type"` // before transformers 4.43
	Theta       *float64 `json:"rope_theta"`
	Factor      *float64 `json:"factor"`
	LowFreq     *float64 `json:"low_freq_factor"`
	HighFreq    *float64 `json:"high_freq_factor"`
	OriginalMax *int     `json:"original_max_position_embeddings"`
}

// maxConfigBytes bounds config.json and generation_config.json; published ones have a few kilobytes.
const maxConfigBytes = 1 << 20

// ReadConfig reads config.json and, where present, generation_config.json of a model folder. Errors name the file and field.
func ReadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, "config.json")
	var f configFile
	if err := loader.ReadJSON(path, maxConfigBytes, &f); err != nil {
		return Config{}, err
	}
	cfg, err := f.config()
	if err != nil {
		return Config{}, fmt.Errorf("config %s: %w", path, err)
	}
	gen := filepath.Join(dir, "generation_config.json")
	switch err := cfg.readGeneration(gen); {
	case errors.Is(err, fs.ErrNotExist):
		cfg.Sampling = Greedy()
	case err != nil:
		return Config{}, err
	}
	for _, id := range cfg.EOS {
		if id < 0 || int(id) >= cfg.Vocab {
			return Config{}, fmt.Errorf("config %s: eos_token_id %d is outside the vocabulary of %d", dir, id, cfg.Vocab)
		}
	}
	return cfg, nil
}

func (f *configFile) config() (Config, error) {
	cfg := Config{TiedHead: f.Tied, EOS: f.EOS, Eps: 1e-6}
	if len(f.Architectures) != 1 {
		return cfg, fmt.Errorf("architectures %q: want exactly one, LlamaForCausalLM or Qwen2ForCausalLM", f.Architectures)
	}
	cfg.Architecture = f.Architectures[0]
	switch cfg.Architecture {
	case "LlamaForCausalLM":
		cfg.biases = biases{qkv: f.AttentionBias, out: f.AttentionBias, mlp: f.MLPBias}
	case "Qwen2ForCausalLM":
		cfg.biases.qkv = true
	default:
		return cfg, fmt.Errorf("architectures[0] %q: not supported; want LlamaForCausalLM or Qwen2ForCausalLM", cfg.Architecture)
	}
	for _, d := range []struct {
		field    string
		value    *int
		to       *int
		min, max int
	}{
		{"hidden_size", f.HiddenSize, &cfg.Hidden, 1, 1 << 16},
		{"intermediate_size", f.IntermediateSize, &cfg.Intermediate, 1, 1 << 20},
		{"num_hidden_layers", f.NumLayers, &cfg.Layers, 1, 1024},
		{"num_attention_heads", f.NumHeads, &cfg.Heads, 1, 1024},
		{"vocab_size", f.VocabSize, &cfg.Vocab, 1, 1 << 24},
		{"max_position_embeddings", f.MaxPositions, &cfg.MaxPositions, 1, 1 << 30},
	} {
		if d.value == nil {
			return cfg, fmt.Errorf("%s is missing", d.field)
		}
		if *d.value < d.min || *d.value > d.max {
			return cfg, fmt.Errorf("%s %d: want %d to %d", d.field, *d.value, d.min, d.max)
		}
		*d.to = *d.value
	}
	if err := f.heads(&cfg); err != nil {
		return cfg, err
	}
	if f.RMSNormEps != nil {
		cfg.Eps = float32(*f.RMSNormEps)
	}
	if !(cfg.Eps > 0 && cfg.Eps < 1) {
		return cfg, fmt.Errorf("rms_norm_eps %g: want above 0 and below 1", cfg.Eps)
	}
	if d := f.DualChunk; d != nil {
		if d.OriginalMax == nil || *d.OriginalMax < 1 {
			return cfg, errors.New("dual_chunk_attention_config.original_max_position_embeddings is missing or below 1")
		}
		cfg.MaxPositions = min(cfg.MaxPositions, *d.OriginalMax)
	}
	if err := f.unsupported(); err != nil {
		return cfg, err
	}
	return cfg, f.rope(&cfg)
}

func (f *configFile) heads(cfg *Config) error {
	cfg.KVHeads = cfg.Heads
	if f.NumKVHeads != nil {
		cfg.KVHeads = *f.NumKVHeads
	}
	if cfg.KVHeads < 1 || cfg.Heads%cfg.KVHeads != 0 {
		return fmt.Errorf("num_key_value_heads %d: want a divisor of num_attention_heads %d", cfg.KVHeads, cfg.Heads)
	}
	cfg.HeadDim = cfg.Hidden / cfg.Heads
	if f.HeadDim != nil {
		cfg.HeadDim = *f.HeadDim
	} else if cfg.Hidden%cfg.Heads != 0 {
		return fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d, and head_dim is missing", cfg.Hidden, cfg.Heads)
	}
	if cfg.HeadDim < 8 || cfg.HeadDim > 256 || cfg.HeadDim%2 != 0 {
		return fmt.Errorf("head_dim %d: want an even number from 8 to 256", cfg.HeadDim)
	}
	return nil
}

// unsupported refuses what would change the result if it were ignored.
func (f *configFile) unsupported() error {
	if f.HiddenAct != nil && *f.HiddenAct != "silu" {
		return fmt.Errorf("hidden_act %q: not supported; want silu", *f.HiddenAct)
	}
	if f.UseSlidingWindow {
		return errors.New("use_sliding_window true: sliding windows are not supported")
	}
	for _, t := range f.LayerTypes {
		if t != "full_attention" {
			return fmt.Errorf("layer_types %q: not supported; want full_attention", t)
		}
	}
	if f.PartialRotary != nil && *f.PartialRotary != 1 {
		return fmt.Errorf("partial_rotary_factor %g: not supported; want 1", *f.PartialRotary)
	}
	if f.Quantization != nil {
		return errors.New("quantization_config: quantised checkpoints are not supported; use the BF16, F16 or F32 one")
	}
	return nil
}

func (f *configFile) rope(cfg *Config) error {
	r, field := f.RopeScaling, "rope_scaling"
	if f.RopeParameters != nil {
		r, field = f.RopeParameters, "rope_parameters"
	}
	cfg.Rope.Theta = 10000
	if f.RopeTheta != nil {
		cfg.Rope.Theta = *f.RopeTheta
	}
	if r != nil && r.Theta != nil {
		cfg.Rope.Theta = *r.Theta
	}
	if !(cfg.Rope.Theta >= 1 && cfg.Rope.Theta <= 1e12) {
		return fmt.Errorf("rope_theta %g: want 1 to 1e12", cfg.Rope.Theta)
	}
	if r == nil {
		return nil
	}
	kind := "default"
	if r.Type != nil {
		kind = *r.Type
	}
	if r.RopeType != nil {
		kind = *r.RopeType
	}
	switch kind {
	case "default":
		return nil
	case "llama3":
	default:
		return fmt.Errorf("%s.rope_type %q: not supported; want default or llama3", field, kind)
	}
	for _, v := range []struct {
		name  string
		value *float64
		to    *float64
	}{{"factor", r.Factor, &cfg.Rope.Factor}, {"low_freq_factor", r.LowFreq, &cfg.Rope.LowFreqFactor}, {"high_freq_factor", r.HighFreq, &cfg.Rope.HighFreqFactor}} {
		if v.value == nil {
			return fmt.Errorf("%s.%s is missing; rope_type llama3 needs it", field, v.name)
		}
		if !(*v.value > 0 && *v.value <= 1e6) {
			return fmt.Errorf("%s.%s %g: want above 0, at most 1e6", field, v.name, *v.value)
		}
		*v.to = *v.value
	}
	if cfg.Rope.HighFreqFactor <= cfg.Rope.LowFreqFactor {
		return fmt.Errorf("%s.high_freq_factor %g: want above low_freq_factor %g", field, cfg.Rope.HighFreqFactor, cfg.Rope.LowFreqFactor)
	}
	if r.OriginalMax == nil || *r.OriginalMax < 1 {
		return fmt.Errorf("%s.original_max_position_embeddings is missing or below 1; rope_type llama3 needs it", field)
	}
	cfg.Rope.OriginalMax = *r.OriginalMax
	return nil
}

// frequencies returns the angle per position of each pair of elements, [headDim/2], in float32 as Hugging Face computes it.
// The llama3 rule: wavelengths up to original/high_freq_factor stay, those beyond original/low_freq_factor are divided by
// factor, those between are interpolated (meta-llama/llama-models, Llama-3.1).
func (r Rope) frequencies(headDim int) []float32 {
	freqs := make([]float32, headDim/2)
	low := float32(r.OriginalMax) / float32(r.LowFreqFactor)   // wavelengths beyond this are stretched
	high := float32(r.OriginalMax) / float32(r.HighFreqFactor) // and those below this stay
	for i := range freqs {
		f := 1 / float32(math.Pow(r.Theta, float64(float32(2*i)/float32(headDim))))
		if r.Factor != 0 {
			factor := float32(r.Factor)
			switch wavelength := 2 * math.Pi / f; {
			case wavelength > low:
				f /= factor
			case wavelength >= high:
				smooth := (float32(r.OriginalMax)/wavelength - float32(r.LowFreqFactor)) / float32(r.HighFreqFactor-r.LowFreqFactor)
				f = (1-smooth)*f/factor + smooth*f
			}
		}
		freqs[i] = f
	}
	return freqs
}

// Params is the number of weights of the model, the tied head counted once.
func (c Config) Params() int64 {
	var n int64
	for _, s := range c.Tensors(kernels.F32) {
		size := int64(1)
		for _, d := range s.Dims {
			size *= int64(d)
		}
		n += size
	}
	return n
}
