package jieba

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestCut compares with what Python's jieba 0.42.1 made of the same texts: sentences, and in hard.jsonl random chains of
// dictionary words, characters, marks and numbers, some of them shuffled.
func TestCut(t *testing.T) {
	s := New()
	testFile(t, s, "testdata/cut.jsonl", 495)
	testFile(t, s, "testdata/hard.jsonl", 401)
}

func testFile(t *testing.T, s *Segmenter, path string, want int) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var c struct {
			Text   string
			Tokens []string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if got := s.Cut(c.Text); !slices.Equal(got, c.Tokens) {
			t.Errorf("%q\ngot  %q\nwant %q", c.Text, got, c.Tokens)
		}
	}
	if n != want {
		t.Errorf("%s: %d texts, want %d", path, n, want)
	}
}

func FuzzCut(f *testing.F) {
	for _, text := range []string{"", "3.14%", "a\r\nb\r", "\xff李\xf0", "B超", "2017年12月7日", "他来到了网易杭研大厦"} {
		f.Add(text)
	}
	s := New()
	f.Fuzz(func(t *testing.T, text string) {
		words := s.Cut(text)
		if joined := strings.Join(words, ""); joined != text {
			t.Errorf("%q: words make %q", text, joined)
		}
		if slices.Contains(words, "") && utf8.ValidString(text) {
			t.Errorf("%q: an empty word", text)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load()
	}
}

func BenchmarkCut(b *testing.B) {
	text := strings.Repeat("李建国在朝阳区的博物馆里发现了两千五百座运河，白鹭湾气温降至零下2500.5℃。", 100)
	s := New()
	s.Cut("")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		s.Cut(text)
	}
}
