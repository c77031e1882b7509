package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/loader"
)

// TestInterrupt: Ctrl-C in a prefill of minutes stops the process soon, with exit code 130. On a machine with nothing else to do it takes
// well under 2 s; the limit here leaves room for a loaded one and the race detector.
func TestInterrupt(t *testing.T) {
	for _, sig := range []struct {
		os.Signal
		code int
	}{{os.Interrupt, 130}, {syscall.SIGTERM, 143}} {
		ids := make([]int, 60000)
		cmd := process("generate", "-m", models+"llama3-d128-bf16", "--ids", jsonFile(t, ids), "--allow-extrapolation", "--json", "--precision", "f32", "--threads", "1")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		start := time.Now()
		if err := cmd.Process.Signal(sig.Signal); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != sig.code {
			t.Errorf("%v: %v, want exit code %d; stderr %s", sig, err, sig.code, &stderr)
		}
		if d := time.Since(start); d > 15*time.Second {
			t.Errorf("%v: took %v to stop", sig, d)
		}
		if !strings.Contains(stdout.String(), `"finish_reason":"interrupted"`) {
			t.Errorf("%v: printed %q", sig, &stdout)
		}
	}
}

// TestInterruptStdin: Ctrl-C ends a command that waits for standard input.
func TestInterruptStdin(t *testing.T) {
	llama, doc, out := models+"llama-f16", writeFile(t, "doc", "a text"), filepath.Join(t.TempDir(), "new")
	for _, args := range [][]string{
		{"generate", "-m", llama},
		{"generate", "-m", llama, "-f", "-", "What?"},
		{"generate", "-m", llama, "-f", "-", "--questions", doc},
		{"generate", "-m", llama, "-f", doc, "--questions", "-"},
		{"capture", "-m", llama, "--layers", "0", "--out", out},
		{"perplexity", "-m", llama, "--text-file", "-"},
		{"tokenize", "-m", llama},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			for sig, want := range map[os.Signal]int{os.Interrupt: exitInterrupt, syscall.SIGTERM: exitTerminate} {
				cmd := process(args...)
				if _, err := cmd.StdinPipe(); err != nil {
					t.Fatal(err)
				}
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(500 * time.Millisecond)
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				hung := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
				_ = cmd.Wait() // the exit code says it
				hung.Stop()
				if code := cmd.ProcessState.ExitCode(); code != want {
					t.Errorf("%v: exit code %d, want %d; stderr %s", sig, code, want, &stderr)
				}
			}
		})
	}
}

// TestLeaves: a command that heeds no context is left when it ends, one that has ended returns its own error, and so heed.
func TestLeaves(t *testing.T) {
	run := func(f func(ctx context.Context) error) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(signalError{syscall.SIGTERM})
		cmd := leaves(&cobra.Command{RunE: func(cmd *cobra.Command, _ []string) error { return f(cmd.Context()) }, SilenceErrors: true, SilenceUsage: true})
		cmd.SetArgs(nil)
		return cmd.ExecuteContext(ctx)
	}
	own := errors.New("its own")
	for _, c := range []struct {
		f    func(ctx context.Context) error
		want error
	}{
		{func(context.Context) error { select {} }, signalError{syscall.SIGTERM}},
		{func(ctx context.Context) error { _, err := heed(ctx, func() (int, error) { select {} }); return err }, signalError{syscall.SIGTERM}},
		{func(ctx context.Context) error { <-ctx.Done(); return own }, own},
	} {
		if err := run(c.f); err != c.want {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
	if n, err := heed(t.Context(), func() (int, error) { return 7, own }); n != 7 || err != own {
		t.Errorf("got %d, %v", n, err)
	}
}

// TestWriteInterrupted: a file whose writing is interrupted leaves nothing.
func TestWriteInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	err := writeTensors(ctx, filepath.Join(dir, "x"), []output{{loader.Out{Name: "a", DType: "U8", Dims: []int{2}}, func(w io.Writer) error {
		_, err := w.Write([]byte{1})
		cancel(signalError{os.Interrupt})
		return errors.Join(err, func() error { _, err := w.Write([]byte{2}); return err }())
	}}})
	if left, _ := os.ReadDir(dir); !errors.Is(err, signalError{os.Interrupt}) || len(left) > 0 {
		t.Errorf("got %v, left %v", err, left)
	}
}

// streaming is a generate whose answer has begun, and is too long for the pipe to hold its end.
type streaming struct {
	*exec.Cmd
	stdout io.ReadCloser
	stderr bytes.Buffer
}

func startStreaming(t *testing.T) *streaming {
	t.Helper()
	s := &streaming{Cmd: process("generate", "-m", models+"llama-f16", "--temperature", "0", "--ignore-eos", "-n", "60000", "--allow-extrapolation", "--threads", "1", "Hello")}
	var err error
	if s.stdout, err = s.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	s.Stderr = &s.stderr
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s.stdout, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestInterruptDecode: Ctrl-C while the answer streams keeps what is there, and the summary.
func TestInterruptDecode(t *testing.T) {
	s := startStreaming(t)
	if err := s.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(s.stdout)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupt {
		t.Errorf("%v, want exit code %d", err, exitInterrupt)
	}
	if !strings.Contains(s.stderr.String(), "interrupted") || !bytes.HasSuffix(rest, []byte("\n")) {
		t.Errorf("stderr %q; the text ends in %q", &s.stderr, rest)
	}
}

// TestClosedPipe: a reader that goes away ends the process quietly.
func TestClosedPipe(t *testing.T) {
	s := startStreaming(t)
	s.stdout.Close()
	err := s.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
		t.Errorf("got %v, want the end by SIGPIPE", err)
	}
	if text := s.stderr.String(); strings.Contains(text, "panic") || strings.ContainsRune(text, '\r') {
		t.Errorf("stderr: %q", text)
	}
}
