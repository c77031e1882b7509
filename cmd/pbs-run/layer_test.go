package main

import (
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/attention"
	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cpu"
)

// owned is a device that has so much memory left.
type owned struct {
	*cpu.Device
	free int64
}

func (o owned) Free() int64 { return o.free }

// TestLayerMemory: plans and their scratch count where a layer is checked against the free memory, those of one shape once.
func TestLayerMemory(t *testing.T) {
	dev, err := cpu.Open(cpu.Options{F32: true, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	shape := layer{heads: 2, kvHeads: 1, headDim: 32, keys: 1024, rows: 1024}
	parse := func(specs ...string) (list []attention.Method) {
		for _, spec := range specs {
			m, err := attention.Parse(spec)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, m)
		}
		return list
	}
	const bare = 4 * 32 * 1024 * (2*2 + 2) // queries, one output, keys and values
	s := kernels.PlanShape{Heads: 2, KVHeads: 1, HeadDim: 32, Capacity: 1024, Rows: 1024, Block: 16, Segment: 256}
	plan := s.Bytes() + dev.Scratch(s)
	for _, c := range []struct {
		methods []attention.Method
		need    int64
	}{{parse("full"), bare}, {parse("pbs:block=16"), bare + plan}, {parse("pbs:block=16,tau=0.5", "full", "pbs:block=16"), bare + plan}} {
		if l, err := newLayer(owned{dev, c.need}, shape, kernels.F32, layerUse{1, c.methods}); err != nil {
			t.Errorf("%v in what it needs: %v", c.methods, err)
		} else if a, b := l.plan(dev, c.methods[0]), l.plan(dev, c.methods[len(c.methods)-1]); a != b {
			t.Errorf("%v: one shape, two plans", c.methods)
		}
		if _, err := newLayer(owned{dev, c.need - 1}, shape, kernels.F32, layerUse{1, c.methods}); err == nil || !strings.Contains(err.Error(), "are free") {
			t.Errorf("%v in less than it needs: %v", c.methods, err)
		}
	}
}
