package goldentest

import "testing"

// PBS is one layer's attention by the published PBS-Attn code. Its tensors: q [Heads, Len, Dim], k and v [KVHeads, Len, Dim];
// key_perm [Heads, Len] and block_mask [Heads, blocks, blocks], which are missing where Dense; out_sparse [Heads, Len, Dim].
type PBS struct {
	File    `json:"-"`
	Heads   int     `json:"num_heads"`
	KVHeads int     `json:"num_kv_heads"`
	Dim     int     `json:"head_dim"`
	Len     int     `json:"seq_len"`
	Block   int     `json:"block_size"`
	Segment int     `json:"segment_size"`
	Tau     float64 `json:"tau"`
	Permute bool    `json:"permute"`
	First   bool    `json:"force_first_block"`
	Dense   bool    `json:"falls_back_to_full"`
	Density struct {
		Density float64 `json:"density"`
		Kept    []int   `json:"selected_causal_blocks"` // by head
	} `json:"density"`
	Unpermuted *float64 `json:"density_without_permutation"`
}

// RunPBS calls f in a subtest for each case of testdata/pbs.
func RunPBS(t *testing.T, f func(t *testing.T, c PBS)) {
	t.Helper()
	Run(t, "pbs", func(t *testing.T, g File) {
		c := PBS{File: g}
		g.JSON(&c)
		f(t, c)
	})
}
