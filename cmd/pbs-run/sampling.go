package main

import (
	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/model"
)

// samplingFlags are the flags of model.Sampling. Those not given come from the model's generation_config.json.
type samplingFlags struct{ model.Sampling }

func (f *samplingFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.Float64Var(&f.Temperature, "temperature", 0, "0 takes the likeliest token, without the model's own sampling settings (default from generation_config.json)")
	fl.IntVar(&f.TopK, "top-k", 0, "draw among the K likeliest tokens; 0 for all (default from generation_config.json)")
	fl.Float64Var(&f.TopP, "top-p", 1, "draw among the likeliest tokens that sum to P (default from generation_config.json)")
	fl.Float64Var(&f.MinP, "min-p", 0, "draw among tokens with at least P times the best one's probability (default from generation_config.json)")
	fl.Float64Var(&f.RepetitionPenalty, "repetition-penalty", 1, "above 1 makes tokens seen before less likely (default from generation_config.json)")
	for _, name := range []string{"top-p", "repetition-penalty"} {
		fl.Lookup(name).DefValue = "0" // which is not shown: the usage says where it comes from
	}
	fl.Uint64VarP(&f.Seed, "seed", "s", 0, "seed of every random draw (default: drawn anew, and printed)")
}

// over lays the flags that were given over the model's defaults. An explicit --temperature 0 asks for the plain argmax, so
// the defaults, which were chosen for sampling, do not apply then.
func (f *samplingFlags) over(defaults model.Sampling, changed func(string) bool) model.Sampling {
	s := defaults
	if changed("temperature") && f.Temperature == 0 {
		s = model.Greedy()
	}
	if changed("temperature") {
		s.Temperature = f.Temperature
	}
	if changed("top-k") {
		s.TopK = f.TopK
	}
	if changed("top-p") {
		s.TopP = f.TopP
	}
	if changed("min-p") {
		s.MinP = f.MinP
	}
	if changed("repetition-penalty") {
		s.RepetitionPenalty = f.RepetitionPenalty
	}
	s.Seed = f.Seed
	return s
}
