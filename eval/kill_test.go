package eval

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv names the folder that a child process of these tests runs in.
const childEnv = "PBS_RUN_TEST_FOLDER"

// slowOptions are a run of some hundred samples with long lines, so that kills hit all of its moments.
func slowOptions(folder string) Options {
	opt := testOptions(folder)
	opt.Tasks = []Task{testTask("vt", 100), testTask("cwe", 100)}
	return opt
}

func slow(ctx context.Context, r Request) (Output, error) {
	time.Sleep(time.Millisecond)
	out, err := echo(ctx, r)
	out.Text += strings.Repeat(" and so on", 200)
	return out, err
}

// TestMain is a run of its own in a child process.
func TestMain(m *testing.M) {
	folder := os.Getenv(childEnv)
	if folder == "" {
		os.Exit(m.Run())
	}
	signal.Ignore(syscall.SIGXFSZ) // a write beyond the limit is then an error, as on a full disk
	counts, err := Run(context.Background(), slowOptions(folder), slow)
	if err == nil {
		_, err = Report(context.Background(), folder, "full", counts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(folder string, before ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	if len(before) > 0 {
		cmd = exec.Command(before[0], append(before[1:], os.Args[0])...)
	}
	cmd.Env = append(os.Environ(), childEnv+"="+folder)
	return cmd
}

// TestKilled: a run that is killed twenty times at random moments ends with the files of one that never was.
func TestKilled(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "full")
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	killed := 0
	for killed < 20 {
		cmd := child(folder)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(5+rng.IntN(60))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		if err == nil { // it got to the end: begin again
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("not killed, but %v", err)
		}
		killed++
	}
	if out, err := child(folder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	whole := slowOptions(filepath.Join(t.TempDir(), "full"))
	mustReport(t, whole.Folder, mustRun(t, whole, slow))
	got, want := contents(t, folder), contents(t, whole.Folder)
	for name := range got { // of writes that a kill has cut off
		if strings.HasPrefix(filepath.Base(name), ".") {
			delete(got, name)
		}
	}
	if !maps.Equal(got, want) {
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s: %d bytes, want %d", name, len(got[name]), len(want[name]))
			}
		}
		t.Error("killed and gone on is not the same as run at once")
	}
}

// TestDiskFull is row 40 of the faults: when the disk is full the run ends with an error, what stands in the file is
// whole lines, and the run goes on when there is room.
func TestDiskFull(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "full")
	out, err := child(folder, "sh", "-c", `ulimit -f 100; exec "$0"`).CombinedOutput() // blocks of 512 or 1024 bytes
	if err == nil || !strings.Contains(string(out), "file too large") || !strings.Contains(string(out), "run the command again") {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(folder, "pred/m/vt.jsonl"))
	if err != nil || len(data) < 20_000 || data[len(data)-1] != '\n' {
		t.Errorf("%d bytes, the last %q, %v", len(data), data[max(0, len(data)-1):], err)
	}
	if out, err := child(folder).CombinedOutput(); err != nil {
		t.Errorf("with room: %v: %s", err, out)
	}
}

// TestFolderErrors is the rest of row 40: places that cannot be written.
func TestFolderErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), testOptions(filepath.Join(file, "full")), echo); err == nil || !strings.Contains(err.Error(), "make output folder") {
		t.Errorf("below a file: %v", err)
	}
	opt := testOptions(t.TempDir())
	if err := os.MkdirAll(filepath.Join(opt.Folder, "pred/m/cwe.jsonl"), 0o755); err != nil {
		t.Fatal(err)
	}
	never := func(context.Context, Request) (Output, error) {
		t.Error("ran before all files were open")
		return Output{}, nil
	}
	if _, err := Run(context.Background(), opt, never); err == nil || !strings.Contains(err.Error(), "open predictions") {
		t.Errorf("a folder in the place of the second task's file: %v", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0) // takes writes, but cannot sync
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p := &predictions{file: null, done: map[string]bool{}}
	if err := p.append("1", testLine{}); err == nil || !strings.Contains(err.Error(), "write prediction 1") || p.done["1"] {
		t.Errorf("a file that cannot sync: %v", err)
	}
	if err := writeFile(filepath.Join(file, "x"), nil); err == nil {
		t.Error("wrote below a file")
	}
}
