package synthetic

import (
	"regexp"
	"strings"
	"testing"
)

var hiddenText = regexp.MustCompile(`One of the special magic numbers for ([a-z]+-[a-z]+) is: ([0-9]+)\.`)

func TestHideNeedle(t *testing.T) {
	prose := strings.Repeat("One line\nand  another. A third (etc.), 3.14 of it?\r\n\r\n\tIt ends!\n", 300)
	code := strings.Repeat("x := f(a.b)\n\ty := x\n", 300)
	for name, doc := range map[string]string{
		"prose": prose, "code": code, "one line": "no end here", "newline": "a\n", "mark": "A.", "not UTF-8": "\xff\xfe. \xff\n",
	} {
		for seed := range uint64(50) {
			h, err := HideNeedle(doc, seed)
			if err != nil {
				t.Fatal(err)
			}
			text := hiddenText.FindString(h.Document[h.Offset:])
			gap := h.Document[h.Offset-1 : h.Offset]
			if h.Document[:h.Offset-1]+h.Document[h.Offset+len(text):] != doc {
				t.Fatalf("%s seed %d: the document changed around the needle", name, seed)
			}
			if !strings.HasPrefix(h.Document[h.Offset:], text) || !strings.HasSuffix(text, h.Answer+".") || len(h.Answer) != 7 {
				t.Fatalf("%s seed %d: needle %q at offset %d, answer %s", name, seed, text, h.Offset, h.Answer)
			}
			before, after := doc[:h.Offset-1], doc[h.Offset-1:]
			sentence := gap == " " && strings.ContainsAny(before[len(before)-1:], ".?!") && strings.ContainsAny(after[:1], " \t\r\n")
			line := gap == "\n" && (after == "" || after[0] == '\n')
			if !sentence && !line {
				t.Errorf("%s seed %d: needle between %q and %q", name, seed, before[max(0, len(before)-9):], after[:min(9, len(after))])
			}
			row, err := parseNeedles("niah_single_2", h.Prompt.User, h.Prompt.Prefix)
			if err != nil {
				t.Fatal(err)
			}
			if row.context != h.Document || row.asked[0]+" is: "+h.Answer+"." != text[strings.Index(text, row.asked[0]):] || !strings.HasSuffix(h.Prompt.User, "\n"+h.Question) {
				t.Errorf("%s seed %d: prompt asks for %s, question %q", name, seed, row.asked, h.Question)
			}
		}
	}
}

func TestHideNeedleSpreads(t *testing.T) {
	const seeds = 1000
	for name, doc := range map[string]string{"prose": strings.Repeat("Some words here. ", 5000), "code": strings.Repeat("f(x)\n", 5000)} {
		var hist [10]int
		for seed := range uint64(seeds) {
			h, err := HideNeedle(doc, seed)
			if err != nil {
				t.Fatal(err)
			}
			hist[h.Offset*10/len(h.Document)]++
		}
		for i, n := range hist {
			if n < 60 || n > 140 {
				t.Errorf("%s: %d of %d needles lie in tenth %d", name, n, seeds, i)
			}
		}
	}
}

func TestHideNeedleRefuses(t *testing.T) {
	for _, doc := range []string{"", " \n"} {
		if _, err := HideNeedle(doc, 1); err == nil {
			t.Errorf("%q: no error", doc)
		}
	}
	var all strings.Builder // every key there is
	words, _ := newVocabulary(PlainWords)
	for _, a := range words.adjectives {
		for _, n := range words.nouns {
			all.WriteString(a + "-" + n + "\n")
		}
	}
	if _, err := HideNeedle(all.String(), 1); err == nil {
		t.Error("a document with every key: no error")
	}
}

func FuzzHideNeedle(f *testing.F) {
	for _, doc := range []string{"a. b", "no end", "\n\n", ".", "One. Two?\r\nThree!\tfour"} {
		f.Add(doc, uint64(1))
	}
	f.Fuzz(func(t *testing.T, doc string, seed uint64) {
		h, err := HideNeedle(doc, seed)
		if err != nil {
			return
		}
		text := hiddenText.FindString(h.Document[h.Offset:])
		if h.Document[:h.Offset-1]+h.Document[h.Offset+len(text):] != doc {
			t.Errorf("%q changed to %q", doc, h.Document)
		}
	})
}
