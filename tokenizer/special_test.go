package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// plainTwin is a tokenizer without added tokens: what it makes of a text is what plain
// encoding must make of it.
func plainTwin(t testing.TB, family string) *Tokenizer {
	return loadEdited(t, family, func(top map[string]any) {
		top["added_tokens"] = []any{}
		top["post_processor"] = nil
	})
}

// Fault 21: without ParseSpecial the text of an added token is text like any other.
func TestPlainEncodingRecognisesNothing(t *testing.T) {
	for _, family := range families {
		tok, twin := load(t, family), plainTwin(t, family)
		rng := rand.New(rand.NewPCG(3, 3))
		for i := range 2000 {
			text := randomText(rng, 1+rng.IntN(40))
			if i%2 == 0 {
				text = strings.ReplaceAll(text, "\x00", "")
			}
			want, err := twin.Encode(text, EncodeOptions{ParseSpecial: true})
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, tok, text, EncodeOptions{}, want)
			back, err := tok.Decode(want, false)
			if err != nil || family == "llama3" && back != text {
				t.Fatalf("%q came back as %q, %v", text, back, err)
			}
		}
	}
}

// Fault 20: the library takes C strings, yet a NUL is a byte like any other: with the
// letter of NUL and that of another control byte exchanged in the vocabulary, exchanging
// the two in the text must give the same ids.
func TestNUL(t *testing.T) {
	for _, family := range families {
		tok := load(t, family)
		exchanged := loadEdited(t, family, func(top map[string]any) {
			vocab := top["model"].(map[string]any)["vocab"].(map[string]any)
			a, b := string(letters()[0]), string(letters()[2])
			vocab[a], vocab[b] = vocab[b], vocab[a]
		})
		rng := rand.New(rand.NewPCG(4, 4))
		for range 1000 {
			text := strings.ReplaceAll(randomText(rng, 1+rng.IntN(40)), "é", "\x00")
			want, err := exchanged.Encode(strings.ReplaceAll(text, "\x00", "\x02"), EncodeOptions{ParseSpecial: true})
			if err != nil {
				t.Fatal(err)
			}
			checkIDs(t, tok, text, EncodeOptions{ParseSpecial: true}, want)
		}
		for _, text := range []string{"\x00", "a\x00", "\x00b", "\x00\x00\x00", "\x00<|eot_id|>\x00"} {
			ids, err := tok.Encode(text, EncodeOptions{ParseSpecial: true})
			if back, err2 := tok.Decode(ids, false); err != nil || err2 != nil || back != text {
				t.Errorf("%q = %v, %v, came back as %q, %v", text, ids, err, back, err2)
			}
		}
	}
}

func TestAllControlAndPrivateCharacters(t *testing.T) {
	tok := load(t, "llama3")
	var b strings.Builder
	for r := rune(0); r < 0x100; r++ {
		b.WriteRune(r)
	}
	for r := firstStandIn; r < firstStandIn+5000; r += 7 {
		b.WriteRune(r)
	}
	text := b.String() + "<|eot_id|>"
	for _, opt := range []EncodeOptions{{}, {ParseSpecial: true}} {
		ids, err := tok.Encode(text, opt)
		back, err2 := tok.Decode(ids, false)
		if err != nil || err2 != nil || back != text {
			t.Errorf("%+v: %v, %v, came back as %q", opt, err, err2, back)
		}
		if eot := idOf(tok, "<|eot_id|>"); slices.Contains(ids, eot) != opt.ParseSpecial {
			t.Errorf("%+v: ids %v", opt, ids)
		}
	}
	for r := firstStandIn; r <= lastStandIn; r++ {
		b.WriteRune(r)
	}
	if _, err := tok.Encode(b.String(), EncodeOptions{ParseSpecial: true}); err == nil {
		t.Error("a text with NUL and every stand-in encoded; want an error")
	}
}

// Fault 61: the post-processor's BOS comes with AddSpecial, once.
func TestAddSpecial(t *testing.T) {
	tok := load(t, "llama3")
	bos := idOf(tok, tok.config.special["bos_token"])
	for _, text := range []string{"", "a", "\x00", strings.Repeat("long text ", 100_000)} {
		plain, err := tok.Encode(text, EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkIDs(t, tok, text, EncodeOptions{AddSpecial: true}, append([]int32{bos}, plain...))
	}
}

// Fault 21 in chats: added tokens in messages stay text, the template's own do not, and
// each piece between those is encoded as a whole.
func TestChatKeepsSpecialTextPlain(t *testing.T) {
	for _, family := range families {
		tok, twin := load(t, family), plainTwin(t, family)
		rng := rand.New(rand.NewPCG(5, 5))
		for range 500 {
			messages := []Message{
				{Role: "user", Content: randomText(rng, rng.IntN(20))},
				{Role: "assistant", Content: randomText(rng, rng.IntN(20))},
				{Role: "user", Content: randomText(rng, 1+rng.IntN(20))},
			}
			got, err := tok.ChatIDs(messages, ChatOptions{AddGenerationPrompt: true})
			if err != nil {
				t.Fatal(err)
			}
			want := referenceChat(t, tok, twin, messages)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %q = %v, want %v", family, messages, got, want)
			}
		}
	}
}

// referenceChat renders with letters for contents, cuts there and at added tokens, and puts
// the pieces together by the twin that knows no added token.
func referenceChat(t *testing.T, tok, twin *Tokenizer, messages []Message) (ids []int32) {
	t.Helper()
	safe := make([]Message, len(messages))
	content := map[string]string{}
	for i, m := range messages {
		key := strings.Repeat("Q", 40+i)
		if content[key] = m.Content; tok.spec.added[0].Content == "<|begin_of_text|>" {
			content[key] = strings.TrimFunc(m.Content, isPythonSpace) // as that template does
		}
		safe[i] = Message{Role: m.Role, Content: key}
	}
	rendered, err := tok.render(safe, ChatOptions{AddGenerationPrompt: true})
	if err != nil {
		t.Fatal(err)
	}
	piece := ""
	flush := func() {
		for i := len(messages) - 1; i >= 0; i-- {
			key := strings.Repeat("Q", 40+i)
			piece = strings.ReplaceAll(piece, key, content[key])
		}
		found, err := twin.Encode(piece, EncodeOptions{ParseSpecial: true})
		if err != nil {
			t.Fatal(err)
		}
		ids, piece = append(ids, found...), ""
	}
	for rendered != "" {
		n := tok.addedTokenAt(rendered)
		if n == 0 {
			_, size := utf8.DecodeRuneInString(rendered)
			piece, rendered = piece+rendered[:size], rendered[size:]
			continue
		}
		flush()
		ids, rendered = append(ids, idOf(tok, rendered[:n])), rendered[n:]
	}
	flush()
	return ids
}

// A token must not come about where two messages, or a message and the template, meet.
func TestChatTokensAcrossSeams(t *testing.T) {
	tok := withTemplate(t, "{% for m in messages %}{{ m.content }}{% endfor %}_id|>")
	eot := idOf(tok, "<|eot_id|>")
	for _, contents := range [][]string{{"<|eot", "_id|>"}, {"x<|eot"}, {"<", "|eot_id|>"}, {"<|eot_id|>"}} {
		var messages []Message
		for _, c := range contents {
			messages = append(messages, Message{Role: "user", Content: c})
		}
		plain, err := tok.ChatIDs(messages, ChatOptions{})
		if err != nil || slices.Contains(plain, eot) {
			t.Errorf("%q: %v, %v", contents, plain, err)
		}
		parsed, err := tok.ChatIDs(messages, ChatOptions{ParseSpecial: true})
		if err != nil || !slices.Contains(parsed, eot) {
			t.Errorf("%q parsed: %v, %v", contents, parsed, err)
		}
		text, err := tok.Decode(plain, false)
		if want := strings.Join(contents, "") + "_id|>"; err != nil || text != want {
			t.Errorf("%q: text %q, %v, want %q", contents, text, err, want)
		}
	}
}

// A template that looks for special tokens in messages cannot be served with plain text.
func TestChatTemplateThatTestsContent(t *testing.T) {
	tok := withTemplate(t, "{{ messages[0].content.split('<|eot_id|>')[-1] }}")
	messages := []Message{{Role: "user", Content: "a<|eot_id|>b"}}
	if ids, err := tok.ChatIDs(messages, ChatOptions{}); err == nil || !strings.Contains(err.Error(), "--parse-special") {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := tok.ChatIDs(messages, ChatOptions{ParseSpecial: true}); err != nil {
		t.Error(err)
	}
}

func TestParseMessages(t *testing.T) {
	good := `[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"b":1,"a":[true,null,2.5]}]}]`
	messages, err := ParseMessages([]byte(good))
	if err != nil || len(messages) != 2 || messages[1].Extra[0].Name != "tool_calls" {
		t.Errorf("%+v, %v", messages, err)
	}
	for _, bad := range []string{
		"", "{}", "null", `"x"`, "[1]", `[{"content":"a"}]`, `[{"role":1,"content":"a"}]`,
		`[{"role":"user","content":["a"]}]`, `[{"role":"a","role":"b","content":""}]`,
		`[{"role":"user","content":"a"}`, `[{"role":"user","content":"` + "\xff" + `"}]`,
		strings.Repeat("[", 100000),
	} {
		if messages, err := ParseMessages([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "read messages: ") {
			t.Errorf("%.40q = %+v, %v", bad, messages, err)
		}
	}
}

func TestChatNeedsMessagesAndTemplate(t *testing.T) {
	tok := load(t, "llama3")
	if _, err := tok.render(nil, ChatOptions{}); err == nil {
		t.Error("no messages: want an error")
	}
	if _, err := withTemplate(t, "").render(hello, ChatOptions{}); err == nil {
		t.Error("no template: want an error")
	}
}
