package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
	"github.com/pbs-run/pbs-run/kvcache"
	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/model"
)

// planLengths are the prompts whose memory inspect shows.
var planLengths = []int{8 << 10, 32 << 10, 128 << 10, 256 << 10, 512 << 10}

func inspectCommand() *cobra.Command {
	var name, kvDType string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect --model DIR|org/name",
		Short: "Show a model's architecture, size and memory needs",
		Long: `Show a model's architecture and size, the longest prompt that fits into the free memory, and what prompts of 8K to 512K tokens
need: weights, KV cache, and activations of f32 arithmetic (bf16 needs less). It reads headers alone.

  pbs-run inspect -m Qwen/Qwen2.5-7B-Instruct-1M`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := engineFlags{kvDType: kvDType}
			kv, err := f.kvType()
			if err != nil {
				return err
			}
			in, err := inspect(name, kv)
			if err != nil {
				return err
			}
			return show(in, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&name, "model", "m", "", "model `folder`, or org/name in the Hugging Face cache")
	cmd.Flags().StringVar(&kvDType, "kv-dtype", "bf16", "element of the KV cache: bf16 or f32")
	registerJSON(cmd, &asJSON)
	must(cmd.MarkFlagRequired("model"))
	return cmd
}

// inspection is what inspect shows. Sizes are in bytes.
type inspection struct {
	Dir          string           `json:"dir"`
	Architecture string           `json:"architecture"`
	Params       int64            `json:"parameters"`
	Bytes        map[string]int64 `json:"bytes_per_dtype"`
	Layers       int              `json:"layers"`
	Hidden       int              `json:"hidden_size"`
	Intermediate int              `json:"intermediate_size"`
	Heads        int              `json:"heads"`
	KVHeads      int              `json:"kv_heads"`
	HeadDim      int              `json:"head_dim"`
	Vocab        int              `json:"vocab_size"`
	ContextLimit int              `json:"context_limit"`
	KVType       string           `json:"kv_dtype"`
	KVPerToken   int64            `json:"kv_bytes_per_token"`
	Free         int64            `json:"free_memory"`
	Largest      int              `json:"largest_prompt_that_fits"`
	Plans        []planned        `json:"memory_plan"`
}

// planned is the memory of one prompt length.
type planned struct {
	Tokens      int   `json:"tokens"`
	Weights     int64 `json:"weights"`
	KV          int64 `json:"kv"`
	Activations int64 `json:"activations"`
	Total       int64 `json:"total"`
}

func inspect(name string, kv kernels.DType) (inspection, error) {
	dir, err := loader.Find(name)
	if err != nil {
		return inspection{}, err
	}
	cfg, err := model.ReadConfig(dir)
	if err != nil {
		return inspection{}, err
	}
	ckpt, err := loader.Open(dir)
	if err != nil {
		return inspection{}, err
	}
	defer ckpt.Close()
	free, err := freeMemory()
	if err != nil {
		return inspection{}, err
	}
	in := inspection{
		Dir: dir, Architecture: cfg.Architecture, Params: cfg.Params(), Bytes: ckpt.Bytes(), Layers: cfg.Layers,
		Hidden: cfg.Hidden, Intermediate: cfg.Intermediate, Heads: cfg.Heads, KVHeads: cfg.KVHeads, HeadDim: cfg.HeadDim,
		Vocab: cfg.Vocab, ContextLimit: cfg.MaxPositions, KVType: kv.String(), Free: free,
		KVPerToken: kvcache.Bytes(kv, cfg.Layers, cfg.KVHeads, cfg.HeadDim, 1),
	}
	var weights int64
	for _, n := range in.Bytes {
		weights += n
	}
	// The plan of f32 arithmetic, as bf16 products need less, with the plans of block-sparse attention.
	pbs, err := attention.Parse("pbs")
	if err != nil {
		return inspection{}, err
	}
	dev, err := cpu.Open(cpu.Options{F32: true})
	if err != nil {
		return inspection{}, err
	}
	defer dev.Close()
	needs := model.Needs{KV: kv, Compute: dev.Compute(), Scratch: dev.Scratch, Weights: weights, Methods: []attention.Method{pbs}}
	in.Largest = cfg.LargestPrompt(free, cfg.MaxPositions, 0, needs)
	for _, n := range planLengths {
		p := cfg.NewPlan(n, n, needs)
		in.Plans = append(in.Plans, planned{n, p.Weights, p.Cache, p.Total() - p.Weights - p.Cache, p.Total()})
	}
	return in, nil
}

func (in inspection) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "model\t%s\narchitecture\t%s\nparameters\t%.3f B\n", in.Dir, in.Architecture, float64(in.Params)/1e9)
	for _, dt := range slices.Sorted(maps.Keys(in.Bytes)) {
		fmt.Fprintf(w, "weights %s\t%s\n", dt, model.GiB(in.Bytes[dt]))
	}
	fmt.Fprintf(w, "layers\t%d\nhidden, MLP\t%d, %d\nheads, KV heads\t%d, %d of %d\nvocabulary\t%d\n",
		in.Layers, in.Hidden, in.Intermediate, in.Heads, in.KVHeads, in.HeadDim, in.Vocab)
	fmt.Fprintf(w, "context limit\t%d tokens\nKV cache\t%d bytes per token (%s)\n", in.ContextLimit, in.KVPerToken, in.KVType)
	fmt.Fprintf(w, "free memory\t%s, enough for a prompt of %d tokens\n\n", model.GiB(in.Free), in.Largest)
	fmt.Fprintln(w, "prompt\tweights\tKV cache\tactivations\ttotal")
	for _, p := range in.Plans {
		note := ""
		if p.Total > in.Free {
			note = "  does not fit"
		}
		if p.Tokens > in.ContextLimit {
			note += "  beyond the context limit"
		}
		fmt.Fprintf(w, "%dK\t%s\t%s\t%s\t%s%s\n", p.Tokens>>10, model.GiB(p.Weights), model.GiB(p.KV), model.GiB(p.Activations), model.GiB(p.Total), note)
	}
	return w.Flush()
}
