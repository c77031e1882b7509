package model

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pbs-run/pbs-run/loader"
)

// idList is the value of eos_token_id: one token id, a list of them, or null.
type idList []int32

// UnmarshalJSON accepts 2, [2, 3] and null.
func (l *idList) UnmarshalJSON(b []byte) error {
	var one int32
	if err := json.Unmarshal(b, &one); err == nil {
		if string(b) != "null" {
			*l = idList{one}
		}
		return nil
	}
	var many []int32
	if err := json.Unmarshal(b, &many); err != nil || bytes.Contains(b, []byte("null")) { // a null in a list is not 0
		return fmt.Errorf("eos_token_id %.40s: want an integer or a list of integers", b)
	}
	*l = many
	return nil
}

// generationFile mirrors the sampling part of generation_config.json.
type generationFile struct {
	EOS               idList   `json:"eos_token_id"`
	DoSample          bool     `json:"do_sample"`
	Temperature       *float64 `json:"temperature"`
	TopK              *int     `json:"top_k"`
	TopP              *float64 `json:"top_p"`
	MinP              *float64 `json:"min_p"`
	RepetitionPenalty *float64 `json:"repetition_penalty"`
}

// readGeneration fills the stop tokens and the sampling defaults. As in Hugging Face, without do_sample decoding is greedy,
// and sampling takes the 50 likeliest tokens unless top_k says otherwise.
func (c *Config) readGeneration(path string) error {
	var f generationFile
	if err := loader.ReadJSON(path, maxConfigBytes, &f); err != nil {
		return err
	}
	if f.EOS != nil {
		c.EOS = f.EOS
	}
	s := Greedy()
	if f.RepetitionPenalty != nil {
		s.RepetitionPenalty = *f.RepetitionPenalty
	}
	if f.DoSample {
		s.Temperature, s.TopK = 1, 50
		for _, v := range []struct {
			value *float64
			to    *float64
		}{{f.Temperature, &s.Temperature}, {f.TopP, &s.TopP}, {f.MinP, &s.MinP}} {
			if v.value != nil {
				*v.to = *v.value
			}
		}
		if f.TopK != nil {
			s.TopK = *f.TopK
		}
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("generation config %s: %w", path, err)
	}
	c.Sampling = s
	return nil
}
