package model

import (
	"fmt"
	"strings"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/loader"
)

// layer is the weights of one decoder layer, where the checkpoint has them.
type layer struct {
	attnNorm kernels.Tensor // [hidden]
	qkv      kernels.Linear // [heads·headDim | kvHeads·headDim | kvHeads·headDim, hidden]
	out      kernels.Linear // [hidden, heads·headDim]
	mlpNorm  kernels.Tensor // [hidden]
	gate, up kernels.Linear // [intermediate, hidden]
	down     kernels.Linear // [hidden, intermediate]
}

// Model is the weights of a decoder on a device. It is read-only and serves any number of sessions, one at a time.
type Model struct {
	Config
	dev    kernels.Device
	ckpt   *loader.Checkpoint
	embed  kernels.Tensor // [vocab, hidden]
	layers []layer
	norm   kernels.Tensor // [hidden]
	head   kernels.Linear // [vocab, hidden]

	// Warnings tells of tensors in the checkpoint that the model does not use and of what the loader noticed.
	Warnings []string
}

// New places the weights of ckpt on dev. It fails on a tensor that is missing or misshapen, with the full list, and on a
// decoder tensor that it would leave unread, since a dropped bias is silently wrong. A checkpoint of loader.Outline is for a device that is a
// kernels.Drawer.
func New(dev kernels.Device, cfg Config, ckpt *loader.Checkpoint) (*Model, error) {
	m := &Model{Config: cfg, dev: dev, ckpt: ckpt, Warnings: ckpt.Warnings()}
	w := weightReader{dev: dev, ckpt: ckpt}
	m.embed = w.tensor("model.embed_tokens.weight", cfg.Vocab, cfg.Hidden)
	for i := range cfg.Layers {
		m.layers = append(m.layers, w.layer(fmt.Sprintf("model.layers.%d.", i), cfg))
	}
	m.norm = w.tensor("model.norm.weight", cfg.Hidden)
	if cfg.TiedHead {
		m.head = kernels.Linear{{W: m.embed}}
	} else {
		m.head = kernels.Linear{{W: w.tensor("lm_head.weight", cfg.Vocab, cfg.Hidden)}}
	}
	if err := w.err(); err != nil {
		return nil, err
	}
	return m, m.checkUnread()
}

// weightReader looks tensors up and collects what is wrong, so that one run shows all of it.
type weightReader struct {
	dev      kernels.Device
	ckpt     *loader.Checkpoint
	problems []string
}

func (w *weightReader) tensor(name string, dims ...int) kernels.Tensor {
	t, err := w.ckpt.Tensor(name, dims...)
	if err != nil {
		w.problems = append(w.problems, err.Error())
		return kernels.Tensor{}
	}
	if r, ok := w.ckpt.Recipe(name); ok {
		return w.dev.(kernels.Drawer).Draw(t.DType, dims, r)
	}
	return w.dev.Place(t)
}

// part reads a weight [out, in] and its bias: required where the architecture has one, else taken where the checkpoint has one.
func (w *weightReader) part(name string, out, in int, needsBias bool) kernels.Part {
	p := kernels.Part{W: w.tensor(name+".weight", out, in)}
	if needsBias || w.ckpt.Has(name+".bias") {
		p.Bias = w.tensor(name+".bias", out)
	}
	return p
}

func (w *weightReader) layer(prefix string, cfg Config) layer {
	q, kv := cfg.Heads*cfg.HeadDim, cfg.KVHeads*cfg.HeadDim
	b := cfg.biases
	return layer{
		attnNorm: w.tensor(prefix+"input_layernorm.weight", cfg.Hidden),
		qkv: kernels.Linear{
			w.part(prefix+"self_attn.q_proj", q, cfg.Hidden, b.qkv),
			w.part(prefix+"self_attn.k_proj", kv, cfg.Hidden, b.qkv),
			w.part(prefix+"self_attn.v_proj", kv, cfg.Hidden, b.qkv),
		},
		out:     kernels.Linear{w.part(prefix+"self_attn.o_proj", cfg.Hidden, q, b.out)},
		mlpNorm: w.tensor(prefix+"post_attention_layernorm.weight", cfg.Hidden),
		gate:    kernels.Linear{w.part(prefix+"mlp.gate_proj", cfg.Intermediate, cfg.Hidden, b.mlp)},
		up:      kernels.Linear{w.part(prefix+"mlp.up_proj", cfg.Intermediate, cfg.Hidden, b.mlp)},
		down:    kernels.Linear{w.part(prefix+"mlp.down_proj", cfg.Hidden, cfg.Intermediate, b.mlp)},
	}
}

// maxProblems bounds the list in one error.
const maxProblems = 20

func (w *weightReader) err() error {
	n := len(w.problems)
	if n == 0 {
		return w.dev.Err()
	}
	list := w.problems
	if n > maxProblems {
		list = append(list[:maxProblems:maxProblems], fmt.Sprintf("and %d more", n-maxProblems))
	}
	return fmt.Errorf("load weights: %s", strings.Join(list, "; "))
}

// checkUnread refuses decoder tensors nobody asked for and warns of others.
func (m *Model) checkUnread() error {
	var decoder []string
	for _, name := range m.ckpt.Unread() {
		switch {
		case strings.HasSuffix(name, ".rotary_emb.inv_freq"): // a buffer that old checkpoints carry; computed from the config here
		case name == "lm_head.weight" && m.TiedHead:
			m.Warnings = append(m.Warnings, "lm_head.weight is not used: tie_word_embeddings is true")
		case strings.HasPrefix(name, "model."):
			decoder = append(decoder, name)
		default:
			m.Warnings = append(m.Warnings, "tensor "+name+" is not used")
		}
	}
	if len(decoder) == 0 {
		return nil
	}
	n := len(decoder)
	return fmt.Errorf("load weights: the checkpoint has %d decoder tensors that %s with %d layers does not use: %s", n, m.Architecture, m.Layers, strings.Join(decoder[:min(n, maxProblems)], ", "))
}

// Tensors lists the weights of a model with this config, for a checkpoint of seeded random weights in dtype dt. Matrices get
// the standard deviation 0.02 that Hugging Face initialises with.
func (c Config) Tensors(dt kernels.DType) []loader.Spec {
	var specs []loader.Spec
	add := func(name string, mean, std float32, dims ...int) {
		specs = append(specs, loader.Spec{Name: name, DType: dt, Dims: dims, Mean: mean, Std: std})
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	add("model.embed_tokens.weight", 0, 0.02, c.Vocab, c.Hidden)
	for i := range c.Layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		linear := func(name string, bias bool, out, in int) {
			add(p+name+".weight", 0, 0.02, out, in)
			if bias {
				add(p+name+".bias", 0, 0.02, out)
			}
		}
		add(p+"input_layernorm.weight", 1, 0, c.Hidden)
		linear("self_attn.q_proj", c.biases.qkv, q, c.Hidden)
		linear("self_attn.k_proj", c.biases.qkv, kv, c.Hidden)
		linear("self_attn.v_proj", c.biases.qkv, kv, c.Hidden)
		linear("self_attn.o_proj", c.biases.out, c.Hidden, q)
		add(p+"post_attention_layernorm.weight", 1, 0, c.Hidden)
		linear("mlp.gate_proj", c.biases.mlp, c.Intermediate, c.Hidden)
		linear("mlp.up_proj", c.biases.mlp, c.Intermediate, c.Hidden)
		linear("mlp.down_proj", c.biases.mlp, c.Hidden, c.Intermediate)
	}
	add("model.norm.weight", 1, 0, c.Hidden)
	if !c.TiedHead {
		add("lm_head.weight", 0, 0.02, c.Vocab, c.Hidden)
	}
	return specs
}
