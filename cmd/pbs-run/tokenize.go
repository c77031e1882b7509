package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pbs-run/pbs-run/loader"
	"github.com/pbs-run/pbs-run/tokenizer"
)

// tokenizeFlags are the flags of tokenize.
type tokenizeFlags struct {
	model        string
	chat         string
	noGeneration bool
	addSpecial   bool
	decode       bool
	skipSpecial  bool
}

func tokenizeCommand() *cobra.Command {
	var f tokenizeFlags
	cmd := &cobra.Command{
		Use:   "tokenize --model DIR [flags]",
		Short: "Turn standard input into token ids, or back",
		Long: `Turn the text on standard input into a JSON array of token ids, as Hugging Face's tokenizers do: special tokens
written in the text are recognised, and none are added unless --add-special is given. With --chat the messages of a
JSON file go through the model's chat template instead. With --decode standard input is an array of ids, and the text
is printed without a newline of its own; ids above the last token's have none. The folder may hold a tokenizer alone.

  pbs-run tokenize -m DIR --add-special < text.txt
  echo '[128000, 9906]' | pbs-run tokenize -m DIR --decode`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runTokenize(&f, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.model, "model", "m", "", "`folder` with tokenizer.json, or org/name in the Hugging Face cache")
	fl.StringVar(&f.chat, "chat", "", "JSON `file` with a chat: [{\"role\": \"user\", \"content\": \"...\"}, ...]")
	fl.BoolVar(&f.noGeneration, "no-generation-prompt", false, "with --chat: leave out the header of the answer")
	fl.BoolVar(&f.addSpecial, "add-special", false, "add BOS and the like where the tokenizer does")
	fl.BoolVar(&f.decode, "decode", false, "turn ids into text")
	fl.BoolVar(&f.skipSpecial, "skip-special", false, "with --decode: leave special tokens out")
	must(cmd.MarkFlagRequired("model"))
	cmd.MarkFlagsMutuallyExclusive("chat", "decode")
	return cmd
}

func runTokenize(f *tokenizeFlags, stdin io.Reader, stdout io.Writer) error {
	dir, err := loader.Find(f.model)
	if err != nil {
		return err
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return err
	}
	defer tok.Close()
	var ids []int32
	if f.chat != "" {
		messages, err := readMessages(f.chat)
		if err != nil {
			return err
		}
		if ids, err = tok.ChatIDs(messages, tokenizer.ChatOptions{AddGenerationPrompt: !f.noGeneration, ParseSpecial: true}); err != nil {
			return err
		}
		return printIDs(stdout, ids)
	}
	in, err := readAll(stdin, "standard input")
	if err != nil {
		return err
	}
	if !f.decode {
		if ids, err = tok.Encode(string(in), tokenizer.EncodeOptions{AddSpecial: f.addSpecial, ParseSpecial: true}); err != nil {
			return err
		}
		return printIDs(stdout, ids)
	}
	if ids, err = parseIDs(in); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	text, err := tok.Decode(ids, f.skipSpecial)
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, text)
	return err
}

func printIDs(w io.Writer, ids []int32) error {
	if ids == nil {
		ids = []int32{} // an empty array, not null
	}
	return json.NewEncoder(w).Encode(ids)
}
