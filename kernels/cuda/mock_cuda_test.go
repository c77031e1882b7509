//go:build cuda

package cuda

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
	buildMock(t, cc, dir, "libcuda.so.1")
	if test == "threads" {
		buildMock(t, cc, dir, "libcublasLt.so.13")
	}
	if test == "clocks" {
		buildMock(t, cc, dir, "libnvidia-ml.so.1")
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

// buildMock makes dir/so of the file in mock.
func buildMock(t *testing.T, cc, dir, so string) {
	t.Helper()
	name, _, _ := strings.Cut(so, ".")
	if out, err := exec.Command(cc, "-O1", "-shared", "-fPIC", "-Wl,-soname,"+so, "-o", filepath.Join(dir, so), filepath.Join("mock", name+".c"), "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("build the mock: %v\n%s", err, out)
	}
}

// TestMockChild is the program under the mock. It prints what the parent looks for.
func TestMockChild(t *testing.T) {
	test := os.Getenv("PBS_MOCK_CASE")
	if test == "" {
		t.Skip("only as a child of the other tests")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d, err := Open(map[string]int{"second": 1}[test])
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
	case "prefill": // attention that needs scratch memory, after the tensors found theirs
		q := d.Alloc(kernels.BF16, 64, 64)
		kv := kernels.KV{K: d.Alloc(kernels.F32, 1, 64, 64), V: d.Alloc(kernels.F32, 1, 64, 64)}
		d.Attend(q, q, kv, 0)
		t.Logf("error: %v", d.Err())
		d.Attend(q, q, kv, 0) // nothing more is queued
		t.Logf("again: %v, tensor %v", d.Err(), d.Alloc(kernels.F32, 1).IsZero())
	case "clocks", "no clocks":
		core, most, memory, held, err := d.Clocks()
		t.Logf("%d %d %d, held by %s, %v", core, most, memory, held, err)
	case "peak":
		d.NoLibGEMM = true
		t.Logf("%.0f, error: %v", d.FMAPeak(), d.Err())
	case "threads": // products of new shapes, each on a thread of its own
		w := kernels.Linear{{W: d.Alloc(kernels.BF16, 64, 64)}}
		x, out := d.Alloc(kernels.BF16, 20, 64), d.Alloc(kernels.F32, 20, 64)
		for rows := 10; rows < 20; rows++ {
			done := make(chan bool)
			go func() {
				runtime.LockOSThread() // and the thread ends with the goroutine
				d.MatMul(out.Slice(0, rows), x.Slice(0, rows), w)
				close(done)
			}()
			<-done
		}
		t.Logf("error: %v", d.Err())
	case "tma":
		q := d.Alloc(kernels.BF16, 256, 3*128)
		kv := kernels.KV{K: d.Alloc(kernels.BF16, 1, 300, 128), V: d.Alloc(kernels.BF16, 1, 300, 128)}
		d.TMA = true
		d.Attend(q, q, kv, 0)
		t.Logf("error: %v, q %x k %x v %x", d.Err(), q.Addr, kv.K.Addr, kv.V.Addr)
	case "transfer":
		d.Upload(d.Alloc(kernels.F32, 4), make([]byte, 16))
		t.Logf("error: %v, download: %v", d.Err(), d.Download(make([]byte, 4), d.Alloc(kernels.F32, 4)))
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
	out, calls := underMock(t, "embed", "PBS_MOCK_ARGS=48")
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
		{"driver and kernel module differ", "alloc", []string{"PBS_MOCK_FAIL=cuDeviceGetCount:1:803"}, []string{"open: cuda: count devices:", "older than R580"}},
		{"no such GPU", "second", nil, []string{"open: no CUDA device 1: there are 1"}},
		{"no image for this GPU", "alloc", []string{"PBS_MOCK_FAIL=cuModuleLoadData:1:209"}, []string{"open: cuda device 0: load kernels of", "compute capability 9.0"}},
		{"no PTX compiler", "alloc", []string{"PBS_MOCK_FAIL=cuModuleLoadData:2:221"}, []string{"open: cuda device 0: load kernels of"}},
		{"no such kernel", "lost", []string{"PBS_MOCK_LACKS=rms_norm"}, []string{"error: cuda: kernel rms_norm: no such kernel in this build; run make cuda", "close: <nil>"}},
		{"memory pinned by others", "alloc", []string{"PBS_MOCK_FAIL=cuMemHostAlloc:1:2"}, []string{"open: cuda device 0: pin 16777216 bytes"}},
		{"out of memory in a prefill", "prefill", []string{"PBS_MOCK_FAIL=cuMemAlloc_v2:4:2"}, []string{"error: cuda: allocate 1 MiB on Mock", "MiB are free", "again: cuda: allocate", "tensor true", "close: <nil>"}},
		{"lost in an upload", "transfer", []string{"PBS_MOCK_FAIL=cuMemcpyHtoDAsync_v2:1:719"}, []string{"error: cuda: copy 16 bytes to the device:", "download: cuda: copy 16 bytes", "close: <nil>"}},
		{"lost in a download", "transfer", []string{"PBS_MOCK_FAIL=cuMemcpyDtoHAsync_v2:1:719"}, []string{"error: <nil>, download: cuda: copy 4 bytes from the device:", "close: <nil>"}},
		{"ECC", "lost", []string{"PBS_MOCK_FAIL=cuStreamSynchronize:1:214"}, []string{"error: cuda: at the latest in kernel rms_norm:", "again: cuda: at the latest in kernel rms_norm", "close: <nil>"}},
		{"launch timeout", "lost", []string{"PBS_MOCK_FAIL=cuStreamSynchronize:1:702"}, []string{"error: cuda: at the latest in kernel rms_norm:", "close: <nil>"}},
		{"clocks", "clocks", nil, []string{"1410 1980 3201, held by its power limit, heat (software), <nil>"}},
		{"no NVML", "no clocks", nil, []string{"0 0 0, held by , clocks of Mock: no libnvidia-ml.so.1"}},
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

// TestMockTensorMaps: what the driver is asked for: shapes, strides, boxes, and the launches that read them.
func TestMockTensorMaps(t *testing.T) {
	out, calls := underMock(t, "tma")
	var maps, launches []string
	for _, c := range calls {
		if f := strings.Fields(c); f[0] == "cuTensorMapEncodeTiled" {
			if !strings.Contains(out, f[3][2:]) {
				t.Errorf("base %s is none of\n%s", f[3], out)
			}
			maps = append(maps, strings.Join(append(f[1:3:3], f[4:]...), " "))
		} else if f[0] == "cuLaunchKernel" {
			launches = append(launches, strings.Join(f[1:5], " "))
		}
	}
	// bf16 (9), rank 3; no interleave, 128-byte swizzle (3), 256 bytes to L2 (3), zeros outside.
	const rest = " box 64 128 1 steps 1 1 1 0 3 3 0"
	if want := []string{
		"9 3 dims 128 256 3 strides 768 256" + rest,
		"9 3 dims 128 256 1 strides 256 76800" + rest,
		"9 3 dims 128 256 1 strides 256 76800" + rest,
	}; !slices.Equal(maps, want) {
		t.Errorf("maps:\n%s\n%s", strings.Join(maps, "\n"), out)
	}
	if want := []string{"find_odd 16,1,1 256 0", "attend_tma_128 6,1,1 384 229632", "attend_128 6,1,1 128 99584"}; !slices.Equal(launches, want) {
		t.Errorf("launches %q", launches)
	}
}

// TestMockPeak: the rate of products is that of inputs that are drawn, in times of the driver: 1 ms for ten products here.
func TestMockPeak(t *testing.T) {
	out, calls := underMock(t, "peak")
	var launches []string
	for _, c := range calls {
		if f := strings.Fields(c); f[0] == "cuLaunchKernel" {
			launches = append(launches, f[1])
		}
	}
	if want := append([]string{"draw", "draw"}, slices.Repeat([]string{"gemm_128"}, 11)...); !slices.Equal(launches, want) {
		t.Errorf("launches %q", launches)
	}
	if want := "10995116, error: <nil>"; !strings.Contains(out, want) { // 2·8192³·10 per ms
		t.Errorf("no %q in\n%s", want, out)
	}
}

// TestSuiteUnderMock runs part of the conformance suite through the real calls of the driver, on a mock that runs the kernels on the
// host.
func TestSuiteUnderMock(t *testing.T) {
	out, _ := suiteUnderMock(t, "^(TestSuite|TestTMA|TestProbes|TestDraw)$/^(Embed|RMSNorm|RopeAppend|PoolBlocks|SortKeys|copy|scores|outputs|128@0.*|700@0-2.*)$")
	for _, test := range []string{"TestSuite/SortKeys", "TestTMA/700@0-2", "TestProbes/outputs", "TestDraw"} {
		if !strings.Contains(out, "--- PASS: "+test) {
			t.Errorf("%s did not pass:\n%s", test, out[max(0, len(out)-4000):])
		}
	}
}

// TestLibraryUnderMock: products by a cuBLASLt that refuses addresses of which more was promised than they keep, and takes strides and
// transposes as the real one does.
func TestLibraryUnderMock(t *testing.T) {
	out, calls := suiteUnderMock(t, "^TestSuite$/^(MatMul|SwiGLU)$", "libcublasLt.so.13")
	for _, test := range []string{"TestSuite/MatMul", "TestSuite/SwiGLU"} {
		if !strings.Contains(out, "--- PASS: "+test) {
			t.Errorf("%s did not pass:\n%s", test, out[max(0, len(out)-4000):])
		}
	}
	promised := map[string]bool{}
	for _, c := range calls {
		if f := strings.Fields(c); f[0] == "cublasLtMatmul" {
			promised[f[4]] = true
		}
	}
	if !promised["256"] || !promised["32"] {
		t.Errorf("alignments of outputs %v: want 32 and 256 among them", promised)
	}
}

// TestMockThreads: a product is the library's whatever thread it is asked for on.
func TestMockThreads(t *testing.T) {
	out, calls := underMock(t, "threads")
	if n := strings.Count(strings.Join(names(calls), " "), "cublasLtMatmul"); n != 10 || !strings.Contains(out, "error: <nil>") {
		t.Errorf("%d products by the library, want 10:\n%s", n, out)
	}
}

// suiteUnderMock runs tests of this program under the mock of the driver and of other libraries, with kernels that run on the host.
func suiteUnderMock(t *testing.T, pattern string, libraries ...string) (output string, calls []string) {
	t.Helper()
	lib, err := simt.Build("src", filepath.Join("simt", "host"), filepath.Join("..", "..", ".build", "simt"))
	if err != nil {
		t.Skip(err)
	}
	lib, err = filepath.Abs(lib)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, so := range append(libraries, "libcuda.so.1") {
		buildMock(t, "cc", dir, so)
	}
	log := filepath.Join(dir, "log")
	cmd := exec.Command(os.Args[0], "-test.run="+pattern, "-test.v")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir, "PBS_SIMT_LIB="+lib, "PBS_MOCK_LOG="+log)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "SKIP") {
		t.Fatalf("%v\n%s", err, out[max(0, len(out)-4000):])
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), strings.Split(strings.TrimSpace(string(text)), "\n")
}
