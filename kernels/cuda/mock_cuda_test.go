//go:build cuda

package cuda

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/kernels"
	"github.com/pbs-run/pbs-run/kernels/cuda/simt"
)

// What follows runs this test's program again with the driver of mock/libcuda.c in front of the real one, since the driver is looked up
// before main.

// underMock runs TestMockChild with a case and settings of the mock, and returns what it printed and the calls it made.
func underMock(t *testing.T, test string, settings ...string) (output string, calls []string) {
	t.Helper()
	dir := t.TempDir()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler (cc) on PATH")
	}
	if out, err := exec.Command(cc, "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", filepath.Join(dir, "libcuda.so.1"), filepath.Join("mock", "libcuda.c"), "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("build the mock: %v\n%s", err, out)
	}
	log := filepath.Join(dir, "log")
	cmd := exec.Command(os.Args[0], "-test.run=^TestMockChild$", "-test.v")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir, "PBS_MOCK_LOG="+log, "PBS_MOCK_CASE="+test)
	cmd.Env = append(cmd.Env, settings...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", test, err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), strings.Split(strings.TrimSpace(string(text)), "\n")
}

// TestMockChild is the program under the mock. It prints what the parent looks for.
func TestMockChild(t *testing.T) {
	test := os.Getenv("PBS_MOCK_CASE")
	if test == "" {
		t.Skip("only as a child of the other tests")
	}
	d, err := Open(0)
	if err != nil {
		t.Logf("open: %v", err)
		return
	}
	switch test {
	case "embed":
		table := d.Place(kernels.NewTensor(kernels.BF16, make([]byte, 2*5*8), 5, 8))
		out := d.Alloc(kernels.F32, 2, 8)
		d.Embed(out, table, []int32{3, 1})
		x := make([]byte, out.Bytes())
		if err := d.Download(x, out); err != nil {
			t.Errorf("download: %v", err)
		}
		t.Logf("out %x table %x", out.Addr, table.Addr)
	case "alloc":
		x := d.Alloc(kernels.F32, 1<<20)
		t.Logf("tensor %v, error: %v, again: %v", x.IsZero(), d.Err(), d.Err())
	case "lost":
		x := d.Alloc(kernels.F32, 4, 16)
		w := d.Alloc(kernels.F32, 16)
		d.RMSNorm(x, x, w, 1e-5)
		t.Logf("error: %v", d.Err())
		d.RMSNorm(x, x, w, 1e-5) // nothing more is queued
		t.Logf("again: %v, download: %v", d.Err(), d.Download(make([]byte, 4), x))
	}
	t.Logf("close: %v", d.Close())
}

// names are the calls without their arguments.
func names(calls []string) []string {
	var n []string
	for _, c := range calls {
		name, _, _ := strings.Cut(c, " ")
		n = append(n, name)
	}
	return n
}

func TestMockOrderAndArguments(t *testing.T) {
	out, calls := underMock(t, "embed")
	at := slices.Index(names(calls), "cuMemAlloc_v2")
	want := []string{
		"cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuEventRecord", // table
		"cuMemAlloc_v2", "cuMemsetD8Async", // out
		"cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuEventRecord", // ids
		"cuModuleGetFunction", "cuLaunchKernel", "cuStreamSynchronize", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize",
	}
	if at < 0 || len(calls) < at+len(want) || !slices.Equal(names(calls)[at:at+len(want)], want) {
		t.Fatalf("calls: %s\n%s", strings.Join(calls, "\n"), out)
	}
	// The launch: its geometry, and every argument at its place.
	launch := strings.Fields(calls[slices.Index(names(calls), "cuLaunchKernel")])
	if got := strings.Join(launch[1:5], " "); got != "embed 2,1,1 256 0" {
		t.Errorf("launch %s", got)
	}
	raw, err := hex.DecodeString(launch[5])
	if err != nil || len(raw) != 48 {
		t.Fatalf("%d bytes of arguments: %v", len(raw), err)
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(raw[8*i:]) }
	if word(3) != 8 || word(4) != 8 || binary.LittleEndian.Uint32(raw[40:]) != 8 || binary.LittleEndian.Uint32(raw[44:]) != 2 {
		t.Errorf("arguments %x: want strides 8 and 8, 8 columns of dtype 2", raw)
	}
	if !strings.Contains(out, hexOf(word(0))) || !strings.Contains(out, hexOf(word(1))) {
		t.Errorf("arguments %x: the addresses are none of\n%s", raw, out)
	}
	end := names(calls)
	if end[len(end)-1] != "cuDevicePrimaryCtxRelease_v2" {
		t.Errorf("the last call is %s", end[len(end)-1])
	}
	if n := strings.Count(strings.Join(end, " "), "cuMemAlloc_v2"); n != strings.Count(strings.Join(end, " "), "cuMemFree_v2") {
		t.Errorf("%d allocations, not as many frees", n)
	}
}

func hexOf(x uint64) string {
	return strings.TrimLeft(hex.EncodeToString(binary.BigEndian.AppendUint64(nil, x)), "0")
}

func TestMockFaults(t *testing.T) {
	for _, c := range []struct {
		name, test string
		settings   []string
		want       []string
	}{
		{"no device", "alloc", []string{"PBS_MOCK_DEVICES=0"}, []string{"open: no CUDA device"}},
		{"old GPU", "alloc", []string{"PBS_MOCK_MAJOR=7"}, []string{"compute capability 7.0; at least 8.0"}},
		{"driver too old", "alloc", []string{"PBS_MOCK_FAIL=cuModuleLoadData:1:222"}, []string{"open: cuda device 0: load kernels of", "driver of R580"}},
		{"out of memory", "alloc", []string{"PBS_MOCK_FAIL=cuMemAlloc_v2:1:2"}, []string{"tensor true, error: cuda: allocate 4 MiB on Mock", "MiB are free: OutOfMemory", "again: cuda: allocate", "close: <nil>"}},
		{"illegal access", "lost", []string{"PBS_MOCK_FAIL=cuStreamSynchronize:1:700"}, []string{"error: cuda: at the latest in kernel rms_norm:", "again: cuda: at the latest in kernel rms_norm", "download: cuda: at the latest", "close: <nil>"}},
		{"launch refused", "lost", []string{"PBS_MOCK_FAIL=cuLaunchKernel:1:719"}, []string{"error: cuda: kernel rms_norm: CUDA_ERROR_LAUNCH_FAILED", "close: <nil>"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, calls := underMock(t, c.test, c.settings...)
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("no %q in\n%s", w, out)
				}
			}
			if n := strings.Count(strings.Join(names(calls), " "), "cuLaunchKernel"); n > 1 {
				t.Errorf("%d launches after the device was lost", n)
			}
		})
	}
}

// TestSuiteUnderMock runs part of the conformance suite through the real calls of the driver, on a mock that runs the kernels on the
// host.
func TestSuiteUnderMock(t *testing.T) {
	lib, err := simt.Build("src", filepath.Join("simt", "host"), filepath.Join("..", "..", ".build", "simt"))
	if err != nil {
		t.Skip(err)
	}
	lib, err = filepath.Abs(lib)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("cc", "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", filepath.Join(dir, "libcuda.so.1"), filepath.Join("mock", "libcuda.c"), "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("build the mock: %v\n%s", err, out)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSuite$/^(Embed|RMSNorm|RopeAppend|PoolBlocks|SortKeys)$", "-test.v")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir, "PBS_SIMT_LIB="+lib)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "SKIP") || !strings.Contains(string(out), "--- PASS: TestSuite/SortKeys") {
		t.Fatalf("%v\n%s", err, out[max(0, len(out)-4000):])
	}
}
