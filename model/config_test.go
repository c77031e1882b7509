package model_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/model"
)

// baseConfig is a small valid config.json.
func baseConfig() map[string]any {
	return map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 1000,
		"rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu", "eos_token_id": 7,
	}
}

// writeConfig makes a model folder of config.json and, unless empty, generation_config.json.
func writeConfig(t testing.TB, config map[string]any, generation string) string {
	t.Helper()
	dir := t.TempDir()
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if generation != "" {
		if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(generation), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestConfigErrors(t *testing.T) {
	llama3 := map[string]any{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}
	without := func(key string) map[string]any {
		m := maps.Clone(llama3)
		delete(m, key)
		return m
	}
	for _, c := range []struct {
		field string // changed in the base config; nil removes it
		value any
		want  string // part of the error
	}{
		{"hidden_size", nil, "hidden_size is missing"},
		{"hidden_size", 0, "hidden_size 0: want 1 to"},
		{"hidden_size", "64", "hidden_size"},
		{"hidden_size", 64.5, "hidden_size"},
		{"intermediate_size", nil, "intermediate_size is missing"},
		{"num_hidden_layers", 0, "num_hidden_layers 0"},
		{"num_hidden_layers", 1000000000, "num_hidden_layers 1000000000: want 1 to 1024"},
		{"num_attention_heads", -4, "num_attention_heads -4"},
		{"num_key_value_heads", 3, "num_key_value_heads 3: want a divisor"},
		{"num_key_value_heads", 0, "num_key_value_heads 0"},
		{"num_attention_heads", 6, "not a multiple"},
		{"head_dim", 17, "head_dim 17: want an even number"},
		{"head_dim", 1024, "head_dim 1024"},
		{"vocab_size", nil, "vocab_size is missing"},
		{"max_position_embeddings", nil, "max_position_embeddings is missing"},
		{"rms_norm_eps", 0, "rms_norm_eps"},
		{"rms_norm_eps", -1, "rms_norm_eps"},
		{"architectures", nil, "architectures"},
		{"architectures", []string{"MistralForCausalLM"}, `architectures[0] "MistralForCausalLM": not supported; want LlamaForCausalLM or Qwen2ForCausalLM`},
		{"architectures", []string{"LlamaForCausalLM", "Qwen2ForCausalLM"}, "exactly one"},
		{"rope_scaling", map[string]any{"rope_type": "yarn", "factor": 4}, `rope_scaling.rope_type "yarn": not supported`},
		{"rope_scaling", map[string]any{"type": "linear", "factor": 4}, `rope_scaling.rope_type "linear": not supported`},
		{"rope_scaling", without("factor"), "rope_scaling.factor is missing"},
		{"rope_scaling", without("low_freq_factor"), "rope_scaling.low_freq_factor is missing"},
		{"rope_scaling", without("high_freq_factor"), "rope_scaling.high_freq_factor is missing"},
		{"rope_scaling", without("original_max_position_embeddings"), "rope_scaling.original_max_position_embeddings is missing"},
		{"rope_parameters", map[string]any{"rope_type": "dynamic"}, `rope_parameters.rope_type "dynamic": not supported`},
		{"rope_theta", 0, "rope_theta 0"},
		{"hidden_act", "gelu", `hidden_act "gelu": not supported`},
		{"use_sliding_window", true, "use_sliding_window true"},
		{"layer_types", []string{"full_attention", "sliding_attention"}, "layer_types"},
		{"quantization_config", map[string]any{"bits": 4}, "quantization_config"},
		{"partial_rotary_factor", 0.5, "partial_rotary_factor"},
		{"dual_chunk_attention_config", map[string]any{"chunk_size": 1}, "original_max_position_embeddings"},
		{"eos_token_id", "x", "eos_token_id"},
		{"eos_token_id", 100, "eos_token_id 100 is outside the vocabulary of 100"},
		{"eos_token_id", []int{1, -2}, "eos_token_id -2"},
	} {
		config := baseConfig()
		config[c.field] = c.value
		if c.value == nil {
			delete(config, c.field)
		}
		_, err := model.ReadConfig(writeConfig(t, config, ""))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "config") {
			t.Errorf("%s = %v: got error %v, want one with %q", c.field, c.value, err, c.want)
		}
	}
}

func TestConfigFiles(t *testing.T) {
	for _, text := range []string{"", "null", "[]", "{", `{"hidden_size": 1e999}`, "\x00", `{"hidden_size": 64, "hidden_size": 32}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := model.ReadConfig(dir); err == nil {
			t.Errorf("config.json %q: no error", text)
		}
	}
	if _, err := model.ReadConfig(t.TempDir()); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("no config.json: got error %v, want one that names it", err)
	}
}

func TestConfigKeys(t *testing.T) {
	config := baseConfig()
	config["rope_parameters"] = map[string]any{"rope_type": "llama3", "rope_theta": 1e6, "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}
	config["dual_chunk_attention_config"] = map[string]any{"original_max_position_embeddings": 500}
	delete(config, "num_key_value_heads")
	delete(config, "eos_token_id")
	cfg, err := model.ReadConfig(writeConfig(t, config, ""))
	if err != nil {
		t.Fatal(err)
	}
	want := model.Rope{Theta: 1e6, Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMax: 64}
	if cfg.Rope != want {
		t.Errorf("rope_parameters: got %+v, want %+v", cfg.Rope, want)
	}
	if cfg.MaxPositions != 500 {
		t.Errorf("context limit with dual chunk attention: got %d, want 500", cfg.MaxPositions)
	}
	if len(cfg.EOS) != 0 {
		t.Errorf("no eos_token_id: got %v", cfg.EOS)
	}
	if cfg.KVHeads != 4 || cfg.HeadDim != 16 {
		t.Errorf("defaults: got %d kv heads of %d, want 4 of 16", cfg.KVHeads, cfg.HeadDim)
	}
}

func TestGenerationConfig(t *testing.T) {
	plain := model.Greedy()
	for _, c := range []struct {
		file string
		eos  []int32
		want model.Sampling
		err  string
	}{
		{"", []int32{7}, plain, ""},
		{`{}`, []int32{7}, plain, ""},
		{`{"eos_token_id": 3}`, []int32{3}, plain, ""},
		{`{"eos_token_id": [3, 4]}`, []int32{3, 4}, plain, ""},
		{`{"eos_token_id": null}`, []int32{7}, plain, ""},
		{`{"eos_token_id": []}`, []int32{}, plain, ""},
		{`{"eos_token_id": [3, null]}`, nil, plain, "eos_token_id [3, null]"},
		{`{"eos_token_id": [3, 100]}`, nil, plain, "eos_token_id 100"},
		{`{"eos_token_id": 1.5}`, nil, plain, "eos_token_id"},
		{`{"temperature": 0.6}`, []int32{7}, plain, ""}, // not used without do_sample
		{`{"do_sample": true}`, []int32{7}, model.Sampling{Temperature: 1, TopK: 50, TopP: 1, RepetitionPenalty: 1}, ""},
		{`{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.05}`, []int32{7},
			model.Sampling{Temperature: 0.7, TopK: 20, TopP: 0.8, MinP: 0.1, RepetitionPenalty: 1.05}, ""},
		{`{"do_sample": true, "top_p": 2}`, nil, plain, "top_p 2"},
		{`{"repetition_penalty": 0}`, nil, plain, "repetition_penalty 0"},
	} {
		cfg, err := model.ReadConfig(writeConfig(t, baseConfig(), c.file))
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got error %v, want one with %q", c.file, err, c.err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.file, err)
		case cfg.Sampling != c.want || !slices.Equal(cfg.EOS, c.eos):
			t.Errorf("%s: got %+v and eos %v, want %+v and %v", c.file, cfg.Sampling, cfg.EOS, c.want, c.eos)
		}
	}
}

func FuzzConfigJSON(f *testing.F) {
	for _, name := range goldenModels {
		b, err := os.ReadFile(filepath.Join("..", "testdata", "models", name, "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1e9}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		cfg, err := model.ReadConfig(dir)
		if err != nil {
			return
		}
		// What is accepted must be usable: dims within range and heads that divide.
		if cfg.Layers < 1 || cfg.Layers > 1024 || cfg.Heads%cfg.KVHeads != 0 || cfg.HeadDim%2 != 0 || cfg.Params() <= 0 {
			t.Errorf("accepted %+v", cfg)
		}
	})
}
