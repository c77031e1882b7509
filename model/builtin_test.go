package model

import "testing"

// TestBuiltinConfigs: the numbers of parameters are those that the models' cards give.
func TestBuiltinConfigs(t *testing.T) {
	for name, params := range map[string]int64{"llama-3.1-8b": 8030261248, "llama-3.2-1b": 1235814400, "qwen2.5-7b-1m": 7615616512} {
		cfg, err := BuiltinConfig(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := cfg.Params(); got != params {
			t.Errorf("%s has %d parameters, want %d", name, got, params)
		}
	}
	if len(BuiltinConfigs()) != 3 {
		t.Errorf("got %v", BuiltinConfigs())
	}
	for _, name := range []string{"", "gpt-2", "../config", "llama-3.1-8b.json"} {
		if _, err := BuiltinConfig(name); err == nil {
			t.Errorf("config %q exists", name)
		}
	}
}
