package cuda

import (
	"encoding/binary"
	"fmt"
)

// step is a decode step as recorded: a graph whose kernels read position and token from memory, so that it serves every position.
type step struct {
	key       any     // whose step it is
	at        uintptr // int64 position, int32 token
	seen      int     // steps run so far
	graph     uintptr
	active    bool // operations queued now belong to the step
	recording bool // and are recorded, not run
	unfit     bool // something in it depends on the position in another way
}

// Step runs one decode step; see kernels.Stepper. The first step of a key runs as it is queued, so that all scratch memory is there;
// the second is recorded; from then on a step is one call of the driver.
func (d *Device) Step(key any, position int, id int32, queue func() error) error {
	if d.failed() {
		return d.Err()
	}
	s := &d.step
	if s.key != key {
		d.dropGraph()
		*s = step{key: key, at: s.at}
	}
	if s.at == 0 {
		b, ok := d.take(16)
		if !ok {
			return d.Err()
		}
		s.at = b.at
	}
	now := binary.LittleEndian.AppendUint64(nil, uint64(position))
	now = binary.LittleEndian.AppendUint64(now, uint64(uint32(id)))
	if err := d.drv.upload(s.at, now); err != nil {
		d.fail(fmt.Errorf("cuda: decode step: %w", err))
		return d.Err()
	}
	if s.graph == 0 {
		s.seen++
		if err := d.record(s, queue); err != nil || s.graph == 0 {
			return err
		}
	}
	if err := d.drv.replay(s.graph); err != nil {
		d.fail(fmt.Errorf("cuda: run the recorded decode step: %w", err))
	}
	return d.err
}

// record runs a step, or records it if it can be.
func (d *Device) record(s *step, queue func() error) error {
	s.active = true
	defer func() { s.active, s.recording = false, false }()
	if s.seen == 1 || s.unfit {
		return queue()
	}
	if err := d.drv.capture(); err != nil {
		d.fail(fmt.Errorf("cuda: record a decode step: %w", err))
		return d.err
	}
	s.recording = true
	err := queue()
	graph, end := d.drv.captured()
	if end != nil {
		d.fail(fmt.Errorf("cuda: record a decode step: %w", end))
	} else {
		s.graph = graph
	}
	if err != nil || d.err != nil {
		d.dropGraph()
		if err == nil {
			err = d.err
		}
	}
	return err
}

func (d *Device) dropGraph() {
	if d.step.graph != 0 {
		if err := d.drv.dropGraph(d.step.graph); err != nil {
			d.fail(fmt.Errorf("cuda: drop a recorded step: %w", err))
		}
		d.step.graph = 0
	}
}

// stepAt is where the position of the step that is queued stands, 0 outside of one.
func (d *Device) stepAt() uintptr {
	if d.step.active {
		return d.step.at
	}
	return 0
}
