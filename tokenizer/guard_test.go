package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

type dict = map[string]any

// Fault 18: every crafted file is an error that names the field, and the process lives: the
// Rust library aborts it on several of these.
func TestCraftedTokenizers(t *testing.T) {
	model := func(top dict) dict { return top["model"].(dict) }
	vocab := func(top dict) dict { return model(top)["vocab"].(dict) }
	added := func(top dict, i int) dict { return top["added_tokens"].([]any)[i].(dict) }
	pre := func(top dict, i int) dict {
		return top["pre_tokenizer"].(dict)["pretokenizers"].([]any)[i].(dict)
	}
	template := func(top dict) dict {
		return top["post_processor"].(dict)["processors"].([]any)[1].(dict)
	}
	merges := func(list ...any) func(dict) { return func(top dict) { model(top)["merges"] = list } }
	cases := []struct {
		name   string
		change func(top dict)
		want   string
	}{
		{"no model", func(top dict) { delete(top, "model") }, "model: want an object"},
		{"other model", func(top dict) { model(top)["type"] = "Unigram" }, "model: type"},
		{"no model type", func(top dict) { delete(model(top), "type") }, "model: type"},
		{"no vocab", func(top dict) { delete(model(top), "vocab") }, "vocab"},
		{"vocab a list", func(top dict) { model(top)["vocab"] = []any{} }, "vocab"},
		{"empty vocab", func(top dict) { model(top)["vocab"] = dict{} }, "vocab"},
		{"id twice", func(top dict) { vocab(top)["a"] = 65 }, "id 65"},
		{"id gap", func(top dict) { vocab(top)["he"] = 100000 }, "gap"},
		{"negative id", func(top dict) { vocab(top)["he"] = -1 }, "whole number"},
		{"huge id", func(top dict) { vocab(top)["he"] = 1 << 40 }, "whole number"},
		{"fractional id", func(top dict) { vocab(top)["he"] = 1.5 }, "whole number"},
		{"id a string", func(top dict) { vocab(top)["he"] = "1" }, "whole number"},
		{"id a list", func(top dict) { vocab(top)["he"] = []any{1} }, "whole number"},
		{"empty token", func(top dict) { vocab(top)[""] = 502 }, "empty token"},
		{"byte without letter", func(top dict) {
			id := vocab(top)["!"]
			delete(vocab(top), "!")
			vocab(top)["!!!!"] = id
		}, "byte 0x21"},
		{"merge not in vocab", merges([]any{"q", "qqqq"}), "merges[0]"},
		{"merge result not in vocab", merges([]any{"h", "e"}, []any{"q", "\""}), "merges[1]"},
		{"legacy merge of one", merges("he"), "merges[0]"},
		{"legacy merge of three", merges("h e l"), "merges[0]"},
		{"legacy merge empty part", merges(" he"), "merges[0]"},
		{"merge of one", merges([]any{"h"}), "merges[0]"},
		{"merge of three", merges([]any{"h", "e", "l"}), "merges[0]"},
		{"merge empty part", merges([]any{"", "he"}), "merges[0]"},
		{"merge of numbers", merges([]any{1, 2}), "merges"},
		{"merges of both kinds", merges([]any{"h", "e"}, "Ġ s"), "merges"},
		{"merges a string", func(top dict) { model(top)["merges"] = "h e" }, "merges"},
		{"no merges", func(top dict) { delete(model(top), "merges") }, "merges"},
		{"prefix underflow", func(top dict) { model(top)["continuing_subword_prefix"] = "######" }, "continuing_subword_prefix"},
		{"prefix inside a character", func(top dict) { model(top)["continuing_subword_prefix"] = "é" }, "continuing_subword_prefix"},
		{"suffix", func(top dict) { model(top)["end_of_word_suffix"] = "</w>" }, "end_of_word_suffix"},
		{"dropout", func(top dict) { model(top)["dropout"] = 0.5 }, "dropout"},
		{"byte fallback", func(top dict) { model(top)["byte_fallback"] = true }, "byte_fallback"},
		{"unknown token unknown", func(top dict) { model(top)["unk_token"] = "<unk>" }, "unk_token"},
		{"flag a string", func(top dict) { model(top)["ignore_merges"] = "yes" }, "ignore_merges"},
		{"added id gap", func(top dict) { added(top, 7)["id"] = 600 }, "added_tokens: [7]"},
		{"added id twice", func(top dict) { added(top, 7)["id"] = 508 }, "added_tokens: [7]"},
		{"added id of a word", func(top dict) { added(top, 0)["id"] = 3 }, "added_tokens: [0]"},
		{"added id negative", func(top dict) { added(top, 0)["id"] = -3 }, "added_tokens: [0]"},
		{"added id missing", func(top dict) { delete(added(top, 0), "id") }, "added_tokens: [0]"},
		{"added content twice", func(top dict) { added(top, 1)["content"] = "<|begin_of_text|>" }, "added_tokens: [1]"},
		{"added content empty", func(top dict) { added(top, 1)["content"] = "" }, "added_tokens: [1]"},
		{"added content a number", func(top dict) { added(top, 1)["content"] = 5 }, "added_tokens: [1]"},
		{"added flag a number", func(top dict) { added(top, 1)["lstrip"] = 5 }, "lstrip"},
		{"added flag missing", func(top dict) { delete(added(top, 1), "rstrip") }, "rstrip"},
		{"added not objects", func(top dict) { top["added_tokens"] = []any{"x"} }, "added_tokens: [0]"},
		{"added too many", func(top dict) { top["added_tokens"] = make([]any, maxAdded+1) }, "added_tokens"},
		{"normaliser unknown", func(top dict) { top["normalizer"] = dict{"type": "Precompiled", "precompiled_charsmap": "AA=="} }, "normalizer"},
		{"normaliser without list", func(top dict) { top["normalizer"] = dict{"type": "Sequence"} }, "normalizer: normalizers: want an array"},
		{"normaliser null in a list", func(top dict) { top["normalizer"] = dict{"type": "Sequence", "normalizers": []any{nil}} }, "normalizers[0]: want an object"},
		{"pre-tokenizer missing", func(top dict) { top["pre_tokenizer"] = nil }, "pre_tokenizer"},
		{"pre-tokenizer unknown", func(top dict) { top["pre_tokenizer"] = dict{"type": "Quantum"} }, "pre_tokenizer"},
		{"not byte-level", func(top dict) { top["pre_tokenizer"] = dict{"type": "Metaspace", "replacement": "_"} }, "pre_tokenizer"},
		{"byte-level not last", func(top dict) { pre(top, 1)["type"] = "Digits" }, "pre_tokenizer"},
		{"regex broken", func(top dict) { pre(top, 0)["pattern"] = dict{"Regex": "(?i:'s|[a-"} }, ""},
		{"regex of an unknown class", func(top dict) { pre(top, 0)["pattern"] = dict{"Regex": `\p{Nosuch}+`} }, ""},
		{"regex huge", func(top dict) { pre(top, 0)["pattern"] = dict{"Regex": strings.Repeat("a", maxRegexBytes+1)} }, "regex"},
		{"regex deep", func(top dict) {
			pre(top, 0)["pattern"] = dict{"Regex": strings.Repeat("(", 8000) + strings.Repeat(")", 8000)}
		}, ""},
		{"pattern unknown", func(top dict) { pre(top, 0)["pattern"] = dict{"Glob": "*"} }, "pre_tokenizer: pretokenizers[0]: pattern: Regex"},
		{"behavior unknown", func(top dict) { pre(top, 0)["behavior"] = "Explode" }, ""},
		{"template piece unknown", func(top dict) { template(top)["pair"] = []any{dict{"Text": "a"}} }, "processors[1]: pair[0]: SpecialToken: want an object"},
		{"post-processor unknown", func(top dict) { top["post_processor"] = dict{"type": "BertProcessing"} }, "post_processor"},
		{"template token unknown", func(top dict) { template(top)["special_tokens"] = dict{} }, "post_processor"},
		{"template id wrong", func(top dict) {
			template(top)["special_tokens"].(dict)["<|begin_of_text|>"].(dict)["ids"] = []any{9999}
		}, "post_processor"},
		{"template without text", func(top dict) { template(top)["single"] = template(top)["single"].([]any)[:1] }, "post_processor"},
		{"template of B", func(top dict) {
			template(top)["single"] = []any{dict{"Sequence": dict{"id": "B", "type_id": 0}}}
		}, "post_processor: processors[1]: single[0]: Sequence"},
		{"decoder unknown", func(top dict) { top["decoder"] = dict{"type": "WordPiece"} }, "decoder"},
		{"decoder missing", func(top dict) { top["decoder"] = nil }, "decoder"},
		{"version", func(top dict) { top["version"] = "2.0" }, "version"},
		{"NUL in a token", func(top dict) { vocab(top)["\x00"] = 502 }, "NUL"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := edit(t, "llama3", c.change)
			tok, err := Load(dir)
			if err == nil {
				tok.Close()
				t.Fatal("loaded; want an error")
			}
			file, text, _ := strings.Cut(err.Error(), "tokenizer.json: ")
			if !strings.Contains(text, c.want) || !strings.HasSuffix(file, dir+"/") || len(text) > 1000 {
				t.Errorf("error %q, want the file and %q", err, c.want)
			}
		})
	}
}

// What is no JSON, or JSON that readers disagree on.
func TestBrokenFiles(t *testing.T) {
	good := testFile(t, "llama3", "tokenizer.json")
	config := testFile(t, "llama3", "tokenizer_config.json")
	for name, text := range map[string]string{
		"empty": "", "null": "null", "list": "[]", "string": `"x"`, "cut": good[:len(good)/2],
		"tail": good + "{}", "deep": strings.Repeat(`{"a":`, 1_000_000), "deep list": strings.Repeat("[", 1_000_000),
		"ill-formed":  strings.Replace(good, "<|eot_id|>", "<|eot_\xff|>", 1),
		"key twice":   strings.Replace(good, "{", `{"model": null, `, 1),
		"token twice": strings.Replace(good, `"vocab": {`, `"vocab": {"!": 1, `, 1),
	} {
		tok, err := Load(folder(t, map[string]string{"tokenizer.json": text, "tokenizer_config.json": config}))
		if err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
			t.Errorf("%s: %v, %v", name, tok, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "list": "[]", "cut": config[:200], "deep": strings.Repeat("[", 1_000_000),
		"bos a number": `{"bos_token": 5}`, "bos an odd object": `{"bos_token": {"x": 1}}`,
		"template a number": `{"chat_template": 5}`, "template list": `{"chat_template": [1]}`,
		"template unnamed": `{"chat_template": [{"template": "x"}]}`,
	} {
		tok, err := Load(folder(t, map[string]string{"tokenizer.json": good, "tokenizer_config.json": text}))
		if err == nil || !strings.Contains(err.Error(), "tokenizer_config.json") {
			t.Errorf("config %s: %v, %v", name, tok, err)
		}
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("empty folder: %v", err)
	}
	if _, err := Load(folder(t, map[string]string{"tokenizer.json": good, "chat_template.jinja": "\xff"})); err == nil || !strings.Contains(err.Error(), "chat_template.jinja") {
		t.Errorf("ill-formed template: %v", err)
	}
}

// Both forms of merges, and files that leave optional things out, load and encode alike.
func TestEquivalentFiles(t *testing.T) {
	want, err := load(t, "llama3").Encode("hello wörld 123", EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(dict){
		"legacy merges": func(top dict) {
			var lines []any
			for _, pair := range top["model"].(dict)["merges"].([]any) {
				lines = append(lines, pair.([]any)[0].(string)+" "+pair.([]any)[1].(string))
			}
			top["model"].(dict)["merges"] = lines
		},
		"nothing optional": func(top dict) {
			for _, key := range []string{"added_tokens", "post_processor", "normalizer", "truncation", "padding"} {
				delete(top, key)
			}
		},
		"truncation": func(top dict) {
			top["truncation"] = dict{"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
			top["padding"] = dict{"strategy": dict{"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": nil, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
		},
	} {
		tok := loadEdited(t, "llama3", change)
		got, err := tok.Encode("hello wörld 123", EncodeOptions{})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
}

// A tokenizer alone, another template file and named templates.
func TestOptionalFiles(t *testing.T) {
	good := testFile(t, "llama3", "tokenizer.json")
	named, err := json.Marshal(dict{
		"bos_token":     dict{"content": "<|begin_of_text|>", "lstrip": false},
		"chat_template": []any{dict{"name": "tool_use", "template": "tools"}, dict{"name": "default", "template": "{{ bos_token }}named"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		files    map[string]string
		rendered string // "" where there is no template
		bos      string
	}{
		{map[string]string{}, "", ""},
		{map[string]string{"special_tokens_map.json": `{"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>"}}`}, "", "<|begin_of_text|>"},
		{map[string]string{"tokenizer_config.json": string(named)}, "<|begin_of_text|>named", "<|begin_of_text|>"},
		{map[string]string{"tokenizer_config.json": string(named), "chat_template.jinja": "file wins\n"}, "file wins", "<|begin_of_text|>"},
		{map[string]string{"special_tokens_map.json": `{"bos_token": "x"}`, "tokenizer_config.json": `{"bos_token": null}`}, "", ""},
	} {
		c.files["tokenizer.json"] = good
		tok, err := Load(folder(t, c.files))
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := tok.render(hello, ChatOptions{})
		if rendered != c.rendered || (err == nil) != (c.rendered != "") {
			t.Errorf("%v: rendered %q, %v", c.files, rendered, err)
		}
		if bos := tok.config.special["bos_token"]; bos != c.bos {
			t.Errorf("%v: BOS %q, want %q", c.files, bos, c.bos)
		}
		tok.Close()
	}
}

func TestVocabulary(t *testing.T) {
	tok := load(t, "qwen2")
	if tok.MaxID() != 509 {
		t.Errorf("highest id %d, want 509", tok.MaxID())
	}
	for token, want := range map[string]struct {
		id      int32
		skipped string // text without special tokens
	}{"<|im_end|>": {507, ""}, "<tool_call>": {508, "<tool_call>"}} {
		if id := idOf(tok, token); id != want.id {
			t.Errorf("%s is %d, want %d", token, id, want.id)
		}
		checkText(t, tok, []int32{want.id}, false, token)
		checkText(t, tok, []int32{want.id}, true, want.skipped)
	}
	if eos, bos := tok.config.special["eos_token"], tok.config.special["bos_token"]; eos != "<|im_end|>" || bos != "" {
		t.Errorf("EOS %q, BOS %q", eos, bos)
	}
}

// Ids above the last one have no text, as in the library, and do not part the bytes of a
// character. Negative ones are errors.
func TestIDsWithoutToken(t *testing.T) {
	for _, family := range families {
		tok := load(t, family)
		letter := func(b byte) int32 { return int32(tok.spec.ids[string(letters()[b])]) }
		beyond := tok.MaxID() + 1
		for _, ids := range [][]int32{
			{beyond}, {letter('a'), beyond, letter('b')}, {beyond, tok.MaxID(), 1<<31 - 1},
			{letter(0xC3), beyond, letter(0xA9)}, {letter(0xC3), beyond},
		} {
			for _, skip := range []bool{false, true} {
				var unsigned []uint32
				for _, id := range ids {
					unsigned = append(unsigned, uint32(id))
				}
				want, err := tok.engine.rust.DecodeErr(unsigned, skip)
				if err != nil {
					t.Fatal(err)
				}
				checkText(t, tok, ids, skip, want)
			}
		}
		for _, id := range []int32{-1, -1 << 31} {
			if text, err := tok.Decode([]int32{64, id}, false); err == nil {
				t.Errorf("Decode of %d = %q, want an error", id, text)
			}
			if text, err := tok.NewStream(false).Next(id); err == nil {
				t.Errorf("Next(%d) = %q, want an error", id, text)
			}
		}
	}
}

// Fault 60: a folder's name is bytes.
func TestOddPaths(t *testing.T) {
	good := testFile(t, "llama3", "tokenizer.json")
	dir := filepath.Join(t.TempDir(), "a b\n'é\xff")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Skip("file system refuses the name: ", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	tok.Close()
}
