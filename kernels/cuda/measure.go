package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pbs-run/pbs-run/kernels"
)

// ISA names the GPU, Threads is its multiprocessors: what reports show of a device.
func (d *Device) ISA() string {
	return fmt.Sprintf("%s (sm_%d%d)", d.props.Name, d.props.Major, d.props.Minor)
}
func (d *Device) Threads() int { return d.props.SMs }

// Mark puts a mark behind all that is queued, for Between. Marks cost a microsecond or two each.
func (d *Device) Mark() int {
	if d.failed() {
		return 0
	}
	i, err := d.drv.mark()
	if err != nil {
		d.fail(fmt.Errorf("cuda: mark: %w", err))
	}
	return i
}

// Between waits for the second mark and returns how long the device took from the first to it; 0 after a failure.
func (d *Device) Between(from, to int) time.Duration {
	if d.failed() {
		return 0
	}
	t, err := d.drv.between(from, to)
	if err != nil {
		d.fail(fmt.Errorf("cuda: time between marks: %w", err))
	}
	return t
}

// ClearMarks forgets all marks.
func (d *Device) ClearMarks() { d.drv.clearMarks() }

// Clocks are the GPU's in MHz, of its multiprocessors now and at most, and of its memory, and what holds them down, if anything does.
func (d *Device) Clocks() (core, most, memory int, held string, err error) {
	core, most, memory, bits, err := d.drv.clocks()
	if err != nil {
		return 0, 0, 0, "", fmt.Errorf("clocks of %s: %w", d.props.Name, err)
	}
	return core, most, memory, heldBy(bits), nil
}

// heldBy names the reasons of NVML for clocks below the most; being idle, and clocks that somebody has set, aside.
func heldBy(bits uint64) string {
	var list []string
	for _, r := range []struct {
		bit  uint64
		name string
	}{{0x4, "its power limit"}, {0x8, "a hardware slowdown"}, {0x20, "heat (software)"}, {0x40, "heat (hardware)"}, {0x80, "a power brake"}} {
		if bits&r.bit != 0 {
			list = append(list, r.name)
		}
	}
	return strings.Join(list, ", ")
}

// FMAPeak measures the rate of a large bf16 matrix product, in GFLOP/s: what shares of the device's rate refer to. Its inputs are normally
// distributed, as those of a model more or less are: products of zeros draw less power and run at clocks that others do not reach.
func (d *Device) FMAPeak() float64 {
	const n = 8192
	var levels []byte
	for rng := rand.New(rand.NewPCG(1, 2)); len(levels) < 2*1024; {
		levels = binary.LittleEndian.AppendUint16(levels, uint16(math.Float32bits(float32(rng.NormFloat64()))>>16))
	}
	x := d.Draw(kernels.BF16, []int{n, n}, kernels.Recipe{Levels: levels, State: 1})
	w := d.Draw(kernels.BF16, []int{n, n}, kernels.Recipe{Levels: levels, State: 2})
	out := d.Alloc(kernels.F32, n, n)
	defer d.release(x, w, out)
	l := kernels.Linear{{W: w}}
	seconds := d.timeOf(10, func() { d.MatMul(out, x, l) })
	return 2e-9 * n * n * n / seconds
}

// ReadBandwidth measures how fast a product of one row reads weights of that many bytes, in GB/s.
func (d *Device) ReadBandwidth(bytes int) (float64, error) {
	const k = 8192
	n := max(bytes/2/k, 1)
	x, w := d.Alloc(kernels.BF16, 1, k), d.Alloc(kernels.BF16, n, k)
	out := d.Alloc(kernels.F32, 1, n)
	defer d.release(x, w, out)
	l := kernels.Linear{{W: w}}
	seconds := d.timeOf(10, func() { d.MatMul(out, x, l) })
	return 2e-9 * float64(n) * k / seconds, d.Err()
}

// timeOf is the mean time of f, whose work is queued, after a warm-up.
func (d *Device) timeOf(times int, f func()) float64 {
	f()
	from := d.Mark()
	for range times {
		f()
	}
	seconds := d.Between(from, d.Mark()).Seconds() / float64(times)
	d.ClearMarks()
	return max(seconds, 1e-9)
}

// release frees tensors of Alloc before Close.
func (d *Device) release(tensors ...kernels.Tensor) {
	if d.Err() != nil {
		return
	}
	for _, t := range tensors {
		for i, b := range d.memory {
			if b.at == t.Addr {
				d.memory = append(d.memory[:i], d.memory[i+1:]...)
				if err := d.drv.free(b.at, b.bytes); err != nil {
					d.fail(fmt.Errorf("cuda: free %d bytes: %w", b.bytes, err))
				}
				break
			}
		}
	}
}
