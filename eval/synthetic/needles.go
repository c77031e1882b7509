package synthetic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// RULER's wording of the needle tasks (Apache-2.0), where more than one key or value is asked for. The needle keeps
// its plural in every task.
const (
	needleIntro = "Some special magic {kind}s are hidden within the following text. Make sure to memorize it. " +
		"I will quiz you about the {kind}s afterwards.\n"
	needleQuestion = "What are all the special magic {kind}s for {query} mentioned in the provided text?"
	needlePrefix   = " The special magic {kind}s for {query} mentioned in the provided text are"
	needleSentence = "One of the special magic %ss for %s is: %s."
)

// wording fills a text of the needle tasks. For one key and one value RULER turns it to the singular by these
// replacements, in this order of preference.
func wording(text, kind, query string, singular bool) string {
	if singular {
		text = strings.NewReplacer("Some", "A", "are all", "is", "are", "is", "{kind}s", "{kind}").Replace(text)
	}
	return strings.NewReplacer("{kind}", kind, "{query}", query).Replace(text)
}

// A haystack is what needles are hidden in.
type haystack int

const (
	essayHaystack  haystack = iota // an essay; the unit of filling is a word
	noiseHaystack                  // lines of noise
	needleHaystack                 // lines that are needles themselves, with other keys
)

// A needleSpec is what sets one needle task apart.
type needleSpec struct {
	haystack             haystack
	uuidKeys, uuidValues bool // else two words, and seven digits
	keys                 int  // hidden
	values               int  // of each key
	queries              int  // keys asked for, with all their values
}

func (s needleSpec) kind() string {
	if s.uuidValues {
		return "uuid"
	}
	return "number"
}

// needleTask returns the settings of RULER's synthetic.yaml.
func needleTask(name string) (needleSpec, bool) {
	s := needleSpec{haystack: essayHaystack, keys: 1, values: 1, queries: 1}
	switch name {
	case "niah_single_1":
		s.haystack = noiseHaystack
	case "niah_single_2":
	case "niah_single_3":
		s.uuidValues = true
	case "niah_multikey_1":
		s.keys = 4
	case "niah_multikey_2":
		s.haystack = needleHaystack
	case "niah_multikey_3":
		s.haystack, s.uuidKeys, s.uuidValues = needleHaystack, true, true
	case "niah_multivalue":
		s.values = 4
	case "niah_multiquery":
		s.keys, s.queries = 4, 4
	default:
		return needleSpec{}, false
	}
	return s, true
}

// A needle is one fact to hide: a magic number or uuid of a key.
type needle struct{ kind, key, value string }

func (n needle) String() string { return fmt.Sprintf(needleSentence, n.kind, n.key, n.value) }

// A needleMaker draws needles.
type needleMaker struct {
	needleSpec
	words vocabulary
}

func newNeedleTask(c Config, spec needleSpec) (task, error) {
	m := needleMaker{needleSpec: spec}
	var err error
	if m.words, err = newVocabulary(c.Words); err != nil {
		return task{}, err
	}
	t := task{name: c.Task, maxNew: 128, probe: 100}
	var essay []string
	if spec.haystack == essayHaystack {
		t.probe = 500
		if essay = strings.Fields(c.Essay); len(essay) == 0 {
			return task{}, fmt.Errorf("%s: the essay has no words; pass --essay FILE", c.Task)
		}
	}
	t.build = func(rng *rand.Rand, _, size int) item { return m.build(rng, essay, size) }
	return t, nil
}

// build hides needles in size units of haystack and asks for the first ones drawn.
func (m needleMaker) build(rng *rand.Rand, essay []string, size int) item {
	needles := m.draw(rng)
	asked := slices.Clone(needles[:m.queries*m.values])
	rng.Shuffle(len(needles), func(i, j int) { needles[i], needles[j] = needles[j], needles[i] })
	texts := make([]string, len(needles))
	for i, n := range needles {
		texts[i] = n.String()
	}
	var context string
	if m.haystack == essayHaystack {
		context = hideInEssay(essay, size, texts, drawDepths(rng, len(texts)))
	} else {
		at := rng.IntN(max(1, size))
		context = hideInLines(m.lines(rng, size, asked[0]), at, texts)
	}
	it := item{prompt: m.prompt(context, asked)}
	for _, n := range asked {
		it.outputs = append(it.outputs, n.value)
	}
	return it
}

// prompt asks for the values of the asked needles, hidden in context.
func (m needleMaker) prompt(context string, asked []needle) Prompt {
	var keys []string
	for i := 0; i < len(asked); i += m.values {
		keys = append(keys, asked[i].key)
	}
	query := keys[0]
	if last := len(keys) - 1; last > 0 {
		query = strings.Join(keys[:last], ", ") + ", and " + keys[last]
	}
	fill := func(text string) string { return wording(text, m.kind(), query, len(asked) == 1) }
	return Prompt{User: fill(needleIntro) + context + "\n" + fill(needleQuestion), Prefix: fill(needlePrefix)}
}

// draw returns the needles of a sample, key by key, no two with the same value and no two keys alike.
func (m needleMaker) draw(rng *rand.Rand) []needle {
	var needles []needle
	for len(needles) < m.keys*m.values {
		n := needle{kind: m.kind()}
		newKey := len(needles)%m.values == 0
		if newKey {
			n.key = m.key(rng)
		} else {
			n.key = needles[len(needles)-1].key
		}
		n.value = m.value(rng)
		taken := func(o needle) bool { return o.value == n.value || newKey && o.key == n.key }
		if !slices.ContainsFunc(needles, taken) {
			needles = append(needles, n)
		}
	}
	return needles
}

// lines returns size lines of haystack: noise, or needles with neither key nor value of the one asked for.
func (m needleMaker) lines(rng *rand.Rand, size int, asked needle) []string {
	if m.haystack == noiseHaystack {
		return slices.Repeat([]string{noise}, size)
	}
	lines := make([]string, 0, size)
	for len(lines) < size {
		n := needle{kind: m.kind(), key: m.key(rng), value: m.value(rng)}
		if n.key != asked.key && n.value != asked.value {
			lines = append(lines, n.String())
		}
	}
	return lines
}

func (m needleMaker) key(rng *rand.Rand) string {
	if m.uuidKeys {
		return uuid(rng)
	}
	return m.words.pair(rng)
}

func (m needleMaker) value(rng *rand.Rand) string {
	if m.uuidValues {
		return uuid(rng)
	}
	return strconv.Itoa(1_000_000 + rng.IntN(9_000_000))
}

// uuid returns a random UUID, version 4 (RFC 9562).
func uuid(rng *rand.Rand) string {
	high, low := rng.Uint64(), rng.Uint64()
	high = high&^0xf000 | 0x4000
	low = low&^(3<<62) | 2<<62
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", high>>32, high>>16&0xffff, high&0xffff, low>>48, low&(1<<48-1))
}
