package model

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

// configs holds what the engine uses of the config.json files of published models, for timing without a download.
//
//go:embed configs/*.json
var configs embed.FS

// BuiltinConfig returns the config of a published model: llama-3.1-8b, llama-3.2-1b or qwen2.5-7b-1m.
func BuiltinConfig(name string) (Config, error) {
	data, err := configs.ReadFile("configs/" + name + ".json")
	if err != nil {
		return Config{}, fmt.Errorf("config %q: want one of %s", name, strings.Join(BuiltinConfigs(), ", "))
	}
	var f configFile
	if err := json.Unmarshal(data, &f); err != nil {
		return Config{}, fmt.Errorf("config %s: %w", name, err)
	}
	cfg, err := f.config()
	if err != nil {
		return Config{}, fmt.Errorf("config %s: %w", name, err)
	}
	cfg.Sampling = Greedy()
	return cfg, nil
}

// BuiltinConfigs lists the names that BuiltinConfig knows.
func BuiltinConfigs() []string {
	entries, _ := configs.ReadDir("configs") // embedded: it is there
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	return names
}
