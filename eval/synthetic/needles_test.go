package synthetic

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A needleRow is a prompt of a needle task taken apart.
type needleRow struct {
	context  string
	needles  []needle // in the order of the text
	offsets  []int    // of the needles in the context
	asked    []string // keys
	singular bool
}

const (
	wordKey   = `[A-Za-z][^\n,:]*-[^\n,:]+`
	uuidText  = `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`
	digitText = `[1-9][0-9]{6}`
)

// parseNeedles takes a prompt apart by a grammar that allows nothing but the task's own wording and layout.
func parseNeedles(task, user, prefix string) (needleRow, error) {
	spec, _ := needleTask(task)
	key, value := wordKey, digitText
	if spec.uuidKeys {
		key = uuidText
	}
	if spec.uuidValues {
		value = uuidText
	}
	kind := spec.kind()
	verb, article, nouns, all := "are", "Some", kind+"s", "are all"
	if spec.queries*spec.values == 1 {
		verb, article, nouns, all = "is", "A", kind, "is"
	}
	whole := regexp.MustCompile(`(?s)^` + article + ` special magic ` + nouns + ` ` + verb + ` hidden within the following text\. ` +
		`Make sure to memorize it\. I will quiz you about the ` + nouns + ` afterwards\.\n(.*)\n` +
		`What ` + all + ` the special magic ` + nouns + ` for (.*) mentioned in the provided text\?$`).FindStringSubmatch(user)
	if whole == nil {
		return needleRow{}, fmt.Errorf("wording of %.200q ... %q", user, user[max(0, len(user)-200):])
	}
	if want := " The special magic " + nouns + " for " + whole[2] + " mentioned in the provided text " + verb; prefix != want {
		return needleRow{}, fmt.Errorf("prefix %q, want %q", prefix, want)
	}
	row := needleRow{context: whole[1], singular: verb == "is"}
	if row.asked = strings.Split(whole[2], ", "); len(row.asked) > 1 {
		last := &row.asked[len(row.asked)-1]
		if !strings.HasPrefix(*last, "and ") {
			return row, fmt.Errorf("query %q", whole[2])
		}
		*last = (*last)[len("and "):]
	}
	sentence := regexp.MustCompile(`One of the special magic ` + kind + `s for (` + key + `) is: (` + value + `)\.`)
	for _, m := range sentence.FindAllStringSubmatchIndex(row.context, -1) {
		row.needles = append(row.needles, needle{kind, row.context[m[2]:m[3]], row.context[m[4]:m[5]]})
		row.offsets = append(row.offsets, m[0])
	}
	if spec.haystack == essayHaystack {
		return row, nil
	}
	for _, line := range strings.Split(row.context, "\n") {
		if m := sentence.FindString(line); line == "" || m != line && line != noise || m == "" && spec.haystack == needleHaystack {
			return row, fmt.Errorf("line %q", line)
		}
	}
	return row, nil
}

// check holds a row against its outputs and the amounts of its task. In a haystack of needles, RULER's own rows may
// have two needles alike.
func (row needleRow) check(task string, outputs []string) error {
	spec, _ := needleTask(task)
	if spec.haystack == essayHaystack && strings.Contains(row.context, "\n") {
		return errors.New("a newline in the essay")
	}
	if len(row.asked) != spec.queries || len(outputs) != spec.queries*spec.values {
		return fmt.Errorf("asks for %q, outputs %q", row.asked, outputs)
	}
	if hidden := spec.keys * spec.values; spec.haystack == needleHaystack {
		if len(row.needles) < 10 {
			return fmt.Errorf("%d needles", len(row.needles))
		}
	} else if len(row.needles) != hidden {
		return fmt.Errorf("%d needles, want %d", len(row.needles), hidden)
	}
	for i, key := range row.asked {
		var values []string
		for _, n := range row.needles {
			if n.key == key {
				values = append(values, n.value)
			} else if slices.Contains(outputs, n.value) && !slices.Contains(row.asked, n.key) {
				return fmt.Errorf("needle %v has an answer", n)
			}
		}
		want := slices.Clone(outputs[i*spec.values : (i+1)*spec.values])
		slices.Sort(values)
		slices.Sort(want)
		if !slices.Equal(values, want) || len(slices.Compact(want)) != spec.values {
			return fmt.Errorf("key %s has %q, outputs %q", key, values, outputs)
		}
	}
	return nil
}

func needleTasks() (tasks []string) {
	for _, task := range RULERTasks() {
		if _, ok := needleTask(task); ok {
			tasks = append(tasks, task)
		}
	}
	return tasks
}

// RULER's own rows and ours have one grammar, with RULER's key words and with the plain ones.
func TestNeedleGrammar(t *testing.T) {
	for _, task := range needleTasks() {
		check := func(from string, i int, user, prefix string, outputs []string) needleRow {
			t.Helper()
			row, err := parseNeedles(task, user, prefix)
			if err = errors.Join(err, row.check(task, outputs)); err != nil {
				t.Errorf("%s %s row %d: %v", task, from, i, err)
			}
			return row
		}
		for i, r := range readRows[RULERRow](t, "ruler/"+task+".jsonl") {
			check("RULER's", i, r.Input, r.AnswerPrefix, r.Outputs)
		}
		for _, words := range []Words{PlainWords, Wonderwords} {
			c := toyConfig(task, 2000, 7)
			c.Words = words
			v, _ := newVocabulary(words)
			for i, s := range makeSamples(t, c, 40) {
				row := check("our", i, s.Prompt.User, s.Prompt.Prefix, s.Outputs)
				for _, n := range row.needles {
					if spec, _ := needleTask(task); !spec.uuidKeys && !isPair(n.key, v) {
						t.Errorf("%s: key %q is not of the lists", task, n.key)
					}
				}
			}
		}
	}
}

func isPair(key string, v vocabulary) bool {
	for i := range key {
		if key[i] == '-' && slices.Contains(v.adjectives, key[:i]) && slices.Contains(v.nouns, key[i+1:]) {
			return true
		}
	}
	return false
}

// The grammar refuses what is not RULER's: this is what makes TestNeedleGrammar worth something.
func TestNeedleGrammarIsStrict(t *testing.T) {
	for _, task := range []string{"niah_single_1", "niah_multikey_2", "niah_multiquery"} {
		s := makeSamples(t, toyConfig(task, 2000, 7), 1)[0]
		for _, change := range [][2]string{
			{" are", " is"}, {" is ", " are "}, {"special", "secret"}, {".\n", ". \n"}, {"\nWhat", "\n\nWhat"}, {"One of", "Two of"},
			{s.Outputs[0], "123"},
		} {
			user, prefix := strings.ReplaceAll(s.Prompt.User, change[0], change[1]), s.Prompt.Prefix
			if user == s.Prompt.User {
				continue
			}
			row, err := parseNeedles(task, user, prefix)
			if errors.Join(err, row.check(task, s.Outputs)) == nil {
				t.Errorf("%s: %q for %q went through", task, change[1], change[0])
			}
		}
	}
}

// Without its needles a context is the squeezed essay from its start, however often that has to be repeated.
func TestContextIsTheEssay(t *testing.T) {
	for _, sentences := range []int{1, 20, 1000} {
		essay := toyEssay(sentences)
		c := toyConfig("niah_multikey_1", 2000, 3)
		c.Essay = essay
		for i, s := range makeSamples(t, c, 20) {
			row, err := parseNeedles(c.Task, s.Prompt.User, s.Prompt.Prefix)
			if err != nil {
				t.Fatal(err)
			}
			text := row.context
			for _, n := range row.needles {
				text = strings.Replace(text, n.String(), "", 1)
			}
			got := strings.Fields(text)
			want := strings.Fields(strings.Repeat(essay+" ", len(got)/len(strings.Fields(essay))+1))
			if !slices.Equal(got, want[:len(got)]) {
				t.Fatalf("essay of %d sentences, sample %d: text is not the essay's", sentences, i)
			}
		}
	}
}

// A needle stands before a sentence: at the start, at the end, or behind a word that ends one.
func TestHideInEssay(t *testing.T) {
	words := strings.Fields("a b. c d? e f! g h")
	for _, c := range []struct {
		size   int
		depths []int
		want   string
	}{
		{8, []int{0}, " N0 a b. c d? e f! g h"},
		{8, []int{25}, "a b. N0 c d? e f! g h"},
		{8, []int{49, 51}, "a b. N0 c d? N1 e f! g h"},
		{8, []int{100}, "a b. c d? e f! g h N0 "},
		{8, []int{51, 54}, "a b. c d? N0  N1 e f! g h"},
		{3, []int{50}, "a b. N0 c"},
		{11, []int{50}, "a b. c d? N0 e f! g h a b. c"},
		{0, []int{50}, " N0 "},
	} {
		needles := []string{"N0", "N1"}[:len(c.depths)]
		if got := hideInEssay(words, c.size, needles, c.depths); got != c.want {
			t.Errorf("size %d depths %v: %q, want %q", c.size, c.depths, got, c.want)
		}
	}
}

func TestNeedlesAreDistinct(t *testing.T) {
	const count = 4000 // so many that a key and a value come up twice among them
	words, _ := newVocabulary(PlainWords)
	m := needleMaker{needleSpec{keys: count, values: 1}, words}
	keys, values := map[string]bool{}, map[string]bool{}
	for _, n := range m.draw(stream(4, "distinct", 0)) {
		keys[n.key], values[n.value] = true, true
	}
	if len(keys) != count || len(values) != count {
		t.Errorf("%d keys and %d values in %d needles", len(keys), len(values), count)
	}
	one := needleMaker{needleSpec{haystack: needleHaystack}, vocabulary{adjectives: []string{"red"}, nouns: []string{"hat", "cup"}}}
	for _, line := range one.lines(stream(1, "lines", 0), 100, needle{"number", "red-hat", "1234567"}) {
		if strings.Contains(line, "red-hat") {
			t.Errorf("a second needle of the asked key: %s", line)
		}
	}
}

// Needles lie everywhere in the text, the asked one too.
func TestNeedlesSpread(t *testing.T) {
	const samples, tenths = 600, 10
	for _, task := range needleTasks() {
		c := toyConfig(task, 5000, 11)
		c.Essay = strings.Repeat("All of one length. ", 400)
		g, err := New(c, func(p Prompt) (int, error) { return len(p.User) / 4, nil })
		if err != nil {
			t.Fatal(err)
		}
		var hist [tenths]int
		for i := range samples {
			s, err := g.Sample(i)
			if err != nil {
				t.Fatal(err)
			}
			hist[strings.Index(s.Prompt.User, s.Outputs[0])*tenths/len(s.Prompt.User)]++
		}
		for i, n := range hist {
			if n < samples/tenths*5/10 || n > samples/tenths*16/10 {
				t.Errorf("%s: %d of %d asked needles lie in tenth %d: %v", task, n, samples, i, hist)
			}
		}
	}
}

// Every one of the 40 depths comes up.
func TestDepths(t *testing.T) {
	depths := map[int]bool{}
	for i := range 1000 {
		drawn := drawDepths(stream(1, "depths", i), 4)
		if !slices.IsSorted(drawn) || len(slices.Compact(drawn)) != 4 {
			t.Errorf("depths %v", drawn)
		}
		for _, d := range drawn {
			depths[d] = true
		}
	}
	if len(depths) != 40 || !depths[0] || !depths[100] || !depths[3] || !depths[51] {
		t.Errorf("%d depths: %v", len(depths), depths)
	}
}

func TestUUID(t *testing.T) {
	form, seen := regexp.MustCompile(`^`+uuidText+`$`), map[string]bool{}
	for i := range 1000 {
		u := uuid(stream(1, "uuid", i))
		if !form.MatchString(u) || seen[u] {
			t.Errorf("uuid %q", u)
		}
		seen[u] = true
	}
}

// A plain key names one word of each list, so a word with a blank or a hyphen, or twice in a list, would be a fault.
func TestPlainWords(t *testing.T) {
	v, _ := newVocabulary(PlainWords)
	for name, words := range map[string][]string{"adjectives": v.adjectives, "nouns": v.nouns} {
		if len(words) < 300 {
			t.Errorf("%s: only %d words", name, len(words))
		}
		slices.Sort(words)
		if len(slices.Compact(slices.Clone(words))) != len(words) {
			t.Errorf("%s: a word is there twice", name)
		}
		for _, w := range words {
			if !regexp.MustCompile(`^[a-z]+$`).MatchString(w) {
				t.Errorf("%s: %q", name, w)
			}
		}
	}
	v, _ = newVocabulary(Wonderwords)
	if len(v.adjectives) != 912 || len(v.nouns) != 6782 || len(v.all) < 8000 || slices.Contains(v.all, "") ||
		!slices.Contains(v.all, "nasty") || !slices.Contains(v.all, "abide") {
		t.Errorf("wonderwords: %d adjectives, %d nouns, %d words", len(v.adjectives), len(v.nouns), len(v.all))
	}
}
