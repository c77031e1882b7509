package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/model"
)

// methodOf is the attention that spec names, dense below --min-length or, for auto, below the break-even length.
func (e *engine) methodOf(spec string, cfg model.Config) (attention.Method, error) {
	least := e.flags.minLength
	if spec == "auto" {
		spec = autoMethod
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

// layerMethods is the attention of every layer: method, but where --attention-layers says otherwise.
func (e *engine) layerMethods(method attention.Method, cfg model.Config) ([]attention.Method, error) {
	methods := slices.Repeat([]attention.Method{method}, cfg.Layers)
	for _, word := range e.flags.perLayer {
		where, spec, ok := strings.Cut(word, "=")
		at, err := parseRanges(where, cfg.Layers)
		if !ok || err != nil {
			return nil, fmt.Errorf("--attention-layers %q: want layers of 0 to %d and a method, as in 0-1=full", word, cfg.Layers-1)
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
