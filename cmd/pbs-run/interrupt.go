package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// signalError is the cause of a context that a signal ended.
type signalError struct{ os.Signal }

func (e signalError) Error() string { return e.Signal.String() }

// cause is why ctx ended, or err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// heed runs f, which looks at no context: it reads standard input, say, or waits for the tokenizers library. When ctx ends it
// returns at once, and f is left to run until the process ends: nothing that f uses may be closed then.
func heed[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		v, err := f()
		done <- outcome{v, err}
	}()
	select {
	case o := <-done:
		return o.v, o.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// patience is how long a command has to end by itself, and to clear its bar, before it is left.
const patience = time.Second

// leaves has cmd's run end soon after its context does, whatever it is at. It is for commands that have nothing to put in order.
func leaves(cmd *cobra.Command) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		late, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		ctx := cmd.Context()
		defer context.AfterFunc(ctx, func() {
			time.AfterFunc(patience, func() { cancel(context.Cause(ctx)) })
		})()
		_, err := heed(late, func() (struct{}, error) { return struct{}{}, run(cmd, args) })
		return err
	}
	return cmd
}
