package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
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
