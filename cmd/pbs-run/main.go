// Command pbs-run answers from long documents with Llama-3.x and Qwen2.5 models, and measures how it does so.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/model"
)

// Exit codes beside 0 and 1 are those of a shell: 128 + the signal that ended the run.
const (
	exitInterrupt = 130
	exitTerminate = 143
)

func main() { os.Exit(run()) }

func run() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		sig := <-signals
		signal.Stop(signals) // a second one kills
		cancel(signalError{sig})
	}()
	err := rootCommand().ExecuteContext(ctx)
	var sig signalError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &sig) && sig.Signal == syscall.SIGTERM:
		return exitTerminate
	case errors.As(err, &sig):
		return exitInterrupt
	}
	fmt.Fprintln(os.Stderr, "pbs-run:", advise(err))
	return 1
}

// advise adds to an error what any command's user can do about it.
func advise(err error) error {
	if errors.Is(err, model.ErrNotFinite) {
		return fmt.Errorf("%w; pbs-run generate --debug finds the layer, pbs-run verify --values checks the weights", err)
	}
	return err
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "pbs-run",
		Short: "Long-context LLM inference with Permuted Block-Sparse Attention",
		Long: `pbs-run runs Llama-3.x and Qwen2.5 models from Hugging Face folders on prompts of up to
hundreds of thousands of tokens, and measures what it does.

Exit codes: 0 success, 1 error, 130 interrupted (Ctrl-C), 143 terminated.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(generateCommand(), logitsCommand(), leaves(perplexityCommand()), attendCommand(), captureCommand(), leaves(tokenizeCommand()), leaves(inspectCommand()), leaves(verifyCommand()), benchCommand(), evalCommand(), attentionTopic())
	return root
}

// group has cmd, which does nothing by itself, show its help, and err where it is given the name of no subcommand.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.DisableFlagsInUseLine = true
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		meant := ""
		if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
			meant = "; did you mean " + strings.Join(names, " or ") + "?"
		}
		return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant)
	}
	return cmd
}
