package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/model"
)

// attentionTopic is a help page.
func attentionTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "attention",
		Short: "Attention methods and their settings",
		Long: `--attention takes a method and, after a colon, its settings, separated by commas: pbs:tau=0.95,segment=512. What is not given keeps
the default that is shown here. Lengths are in tokens, shares are 0 to 1; a higher tau, gamma or threshold keeps more.

  full          dense causal attention
  pbs           PBS-Attn (arXiv 2510.21270): keys are sorted inside segments, then blocks of them chosen by their means
                  block=128 (16 or more), segment=256 (a multiple of block), tau=0.9, permute=on (or off: keys stay in order),
                  first=on (or off: the block that holds token 0 is not always kept), last=0 (so many blocks of queries at the end
                  of the prompt keep everything; last=2, the default of generate, has the question find what it asks for)
  pbs+          pbs whose blocks are scored along antidiagonals
                  as pbs, and stride=8 (divides block)
  meanpool      blocks chosen by their means, keys in order
                  block=128, tau=0.9, last=0
  xattention    XAttention (arXiv 2503.16428): blocks scored along antidiagonals
                  block=128, stride=8, threshold=0.9
  flexprefill   FlexPrefill (arXiv 2502.20766): each head has a pattern and a budget of its own
                  block=128, gamma=0.95, tau=0.1 (a higher one trusts pooled scores more often), min=1024
  minference    MInference's vertical-slash (arXiv 2407.02490): single keys and distances
                  vertical=1000, slash=6096; scale=128 divides scores by its root, as the published code does
  auto          pbs:last=2, but full below the length from which that is faster on this device with this model: what bench prefill
                --calibrate has stored, else 8192, which nobody measured

density=0.3 makes pbs, pbs+ and meanpool keep that share of the causal blocks in the place of what tau asks for, to measure time.

--attention-layers 0-1=full gives some layers another method. --min-length 4096 attends densely below 4096 tokens.
Short prompts, and a few new tokens over a long cache, are dense under every method; decode always is.`,
	}
}

// methodOf is the attention that spec names, dense below --min-length or, for auto, below the break-even length.
func (e *engine) methodOf(spec string, cfg model.Config) (attention.Method, error) {
	least := e.flags.minLength
	if spec == "auto" {
		spec = defaultMethod
		if least == 0 {
			if e.auto == 0 {
				var err error
				if e.auto, err = e.breakEven(cfg); err != nil {
					return nil, err
				}
			}
			least = e.auto
		}
	}
	m, err := attention.Parse(spec)
	if err != nil || least == 0 {
		return m, err
	}
	return attention.DenseBelow{Method: m, Tokens: least}, nil
}

// minLength is the length below which m is dense.
func minLength(m attention.Method) int {
	if d, ok := m.(attention.DenseBelow); ok {
		return d.Tokens
	}
	return 0
}

// layerMethods is the attention of every layer: method, but where --attention-layers says otherwise, with density forced on those too
// unless it is 0.
func (e *engine) layerMethods(method attention.Method, cfg model.Config, density float64) ([]attention.Method, error) {
	methods := slices.Repeat([]attention.Method{method}, cfg.Layers)
	for _, word := range e.flags.perLayer {
		where, spec, ok := strings.Cut(word, "=")
		at, err := parseRanges(where, cfg.Layers)
		if !ok || err != nil {
			return nil, fmt.Errorf("--attention-layers %q: want layers of 0 to %d and a method, as in 0-1=full", word, cfg.Layers-1)
		}
		if spec, err = force(spec, density); err != nil {
			return nil, fmt.Errorf("--attention-layers %q: --force-density: %w", word, err)
		}
		m, err := e.methodOf(spec, cfg)
		if err != nil {
			return nil, fmt.Errorf("--attention-layers %q: %w", word, err)
		}
		for _, i := range at {
			methods[i] = m
		}
	}
	return methods, nil
}

// methodReport is how a report names the methods that ran.
type methodReport struct {
	Attention string   `json:"attention"`
	MinLength int      `json:"min_length,omitempty"`       // dense below
	Layers    []string `json:"attention_layers,omitempty"` // those with another method, as --attention-layers takes them
}

// methodsUsed is the report of method in all layers but those where byLayer has another; nil stands for none.
func methodsUsed(method attention.Method, byLayer []attention.Method) methodReport {
	r := methodReport{Attention: method.String(), MinLength: minLength(method)}
	name := func(m attention.Method) string {
		if least := minLength(m); least != r.MinLength {
			return m.String() + denseBelow(least)
		}
		return m.String()
	}
	for from := 0; from < len(byLayer); {
		to := from + 1
		for to < len(byLayer) && name(byLayer[to]) == name(byLayer[from]) {
			to++
		}
		if spec := name(byLayer[from]); spec != r.Attention {
			layers := fmt.Sprint(from)
			if to > from+1 {
				layers = fmt.Sprintf("%d-%d", from, to-1)
			}
			r.Layers = append(r.Layers, layers+"="+spec)
		}
		from = to
	}
	return r
}

// text describes m for people.
func (m methodReport) text() string {
	text := m.Attention + denseBelow(m.MinLength)
	if len(m.Layers) > 0 {
		text += ", layers " + strings.Join(m.Layers, " ")
	}
	return text
}

// denseBelow is the note on --min-length behind a method's spec.
func denseBelow(tokens int) string {
	if tokens == 0 {
		return ""
	}
	return fmt.Sprintf(" (dense below %d tokens)", tokens)
}
