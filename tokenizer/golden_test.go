package tokenizer

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testdata/{llama3,qwen2} are tokenizers and vectors made with Hugging Face tokenizers
// 0.22.2 and transformers 4.57.6.
var families = []string{"llama3", "qwen2"}

func load(t testing.TB, family string) *Tokenizer {
	t.Helper()
	return loadFolder(t, filepath.Join("testdata", family))
}

func loadFolder(t testing.TB, dir string) *Tokenizer {
	t.Helper()
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

// testFile returns the text of testdata/folder/name.
func testFile(t testing.TB, folder, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readJSON(t testing.TB, folder, name string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(testFile(t, folder, name)), into); err != nil {
		t.Fatalf("%s/%s: %v", folder, name, err)
	}
}

type vectors struct {
	Encode []struct {
		Text               string
		UTF8Hex            string  `json:"utf8_hex"`
		IDs                []int32 `json:"ids"`
		IDsWithSpecial     []int32 `json:"ids_with_special"`
		Decoded            string
		DecodedSkipSpecial string `json:"decoded_skip_special"`
	}
	InvalidUTF8 []struct {
		Hex  string `json:"bytes_hex"`
		Text string `json:"as_text"`
		IDs  []int32
	} `json:"invalid_utf8"`
	Decode []struct {
		IDs  []int32
		Text string
	}
}

func TestGoldenVectors(t *testing.T) {
	for _, family := range families {
		t.Run(family, func(t *testing.T) {
			tok := load(t, family)
			var v vectors
			readJSON(t, family, "vectors.json", &v)
			if len(v.Encode) == 0 || len(v.InvalidUTF8) == 0 || len(v.Decode) == 0 {
				t.Fatal("vectors are missing")
			}
			for _, c := range v.Encode {
				raw, err := hex.DecodeString(c.UTF8Hex)
				if err != nil {
					t.Fatal(err)
				}
				checkIDs(t, tok, string(raw), EncodeOptions{ParseSpecial: true}, c.IDs)
				checkIDs(t, tok, string(raw), EncodeOptions{ParseSpecial: true, AddSpecial: true}, c.IDsWithSpecial)
				checkText(t, tok, c.IDs, false, c.Decoded)
				checkText(t, tok, c.IDs, true, c.DecodedSkipSpecial)
			}
			for _, c := range v.InvalidUTF8 {
				raw, err := hex.DecodeString(c.Hex)
				if err != nil {
					t.Fatal(err)
				}
				if got := ValidUTF8(string(raw)); got != c.Text {
					t.Errorf("ValidUTF8(% x) = %q, want %q", raw, got, c.Text)
				}
				checkIDs(t, tok, string(raw), EncodeOptions{ParseSpecial: true}, c.IDs)
			}
			for _, c := range v.Decode {
				checkText(t, tok, c.IDs, false, c.Text)
			}
		})
	}
}

func checkIDs(t *testing.T, tok *Tokenizer, text string, opt EncodeOptions, want []int32) {
	t.Helper()
	got, err := tok.Encode(text, opt)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Encode(%.60q, %+v) = %v, %v, want %v", text, opt, got, err, want)
	}
}

// checkText checks Decode and the stream that must add up to the same.
func checkText(t *testing.T, tok *Tokenizer, ids []int32, skip bool, want string) {
	t.Helper()
	got, err := tok.Decode(ids, skip)
	if err != nil || got != want {
		t.Errorf("Decode(%v, %v) = %q, %v, want %q", ids, skip, got, err, want)
	}
	if streamed := stream(t, tok, ids, skip); streamed != want {
		t.Errorf("Stream of %v, %v = %q, want %q", ids, skip, streamed, want)
	}
}

func stream(t testing.TB, tok *Tokenizer, ids []int32, skip bool) string {
	t.Helper()
	s := tok.NewStream(skip)
	var b strings.Builder
	for _, id := range ids {
		piece, err := s.Next(id)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(piece)
	}
	return b.String() + s.Flush()
}

func TestGoldenChats(t *testing.T) {
	for _, family := range families {
		t.Run(family, func(t *testing.T) {
			tok := load(t, family)
			var cases []struct {
				Messages            json.RawMessage
				AddGenerationPrompt bool `json:"add_generation_prompt"`
				Rendered            string
				IDs                 []int32
			}
			readJSON(t, family, "chat_vectors.json", &cases)
			if len(cases) == 0 {
				t.Fatal("vectors are missing")
			}
			for i, c := range cases {
				messages, err := ParseMessages(c.Messages)
				if err != nil {
					t.Fatal(err)
				}
				opt := ChatOptions{AddGenerationPrompt: c.AddGenerationPrompt, ParseSpecial: true}
				got, err := tok.render(messages, opt)
				if err != nil || got != c.Rendered {
					t.Errorf("%d: rendered %q, %v, want %q", i, got, err, c.Rendered)
				}
				ids, err := tok.ChatIDs(messages, opt)
				if err != nil || !slices.Equal(ids, c.IDs) {
					t.Errorf("%d: ChatIDs = %v, %v, want %v", i, ids, err, c.IDs)
				}
				if bos, ok := tok.config.special["bos_token"]; ok && count(ids, idOf(tok, bos)) != 1+strings.Count(string(c.Messages), bos) {
					t.Errorf("%d: %d BOS", i, count(ids, idOf(tok, bos)))
				}
			}
		})
	}
}

// idOf is the id of a token as it stands in tokenizer.json, -1 where there is none.
func idOf(tok *Tokenizer, token string) int32 { return int32(slices.Index(tok.spec.tokens, token)) }

func count(ids []int32, id int32) (n int) {
	for _, x := range ids {
		if x == id {
			n++
		}
	}
	return n
}

// The Unicode standard's examples of maximal subparts (section 3.9) and the edges of each
// lead byte's range.
func TestValidUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"":                                         "",
		"a\x80b":                                   "a?b",
		"\xC0\x80\xE0\x80\x80\xE0\x9F\xBF":         "????????",
		"\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80":     "\u0800\uD7FF\uE000",
		"\xED\xA0\x80\xED\xBF\xBF":                 "??????",
		"\xF0\x8F\xBF\xBF\xF4\x90\x80\x80":         "????????",
		"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF":         "\U00010000\U0010FFFF",
		"\xF5\x80\x80\x80\xFE\xFF":                 "??????",
		"a\xF1\x80\x80\xE1\x80\xC2b\x80c\x80\xBFd": "a???b?c??d",
		"\xE1\x80":                                 "?",
		"\xF0\x90\x80":                             "?",
		"\xC2":                                     "?",
		"\xE1\x80\xE1\x80\x80":                     "?\u1000",
	} {
		if got := ValidUTF8(in); got != strings.ReplaceAll(want, "?", replacement) {
			t.Errorf("ValidUTF8(% x) = %q, want %q", in, got, want)
		}
	}
}
