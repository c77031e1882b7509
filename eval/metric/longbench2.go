package metric

import (
	"regexp"
	"strings"
)

// A LongBench2 finds the letter a response to LongBench v2 gives. It may be used by several goroutines at once.
type LongBench2 struct {
	protocol Protocol
	patterns []*regexp.Regexp
}

// NewLongBench2 returns a finder of letters.
func NewLongBench2(p Protocol) *LongBench2 {
	l := &LongBench2{protocol: p}
	for _, pattern := range patterns(p) {
		l.patterns = append(l.patterns, regexp.MustCompile(pattern))
	}
	return l
}

// Letter returns the response's answer, A to D, or "" where it has none.
func (l *LongBench2) Letter(response string) string {
	if l.protocol == OpenCompass {
		return l.firstOption(strip(response))
	}
	response = strings.ReplaceAll(strip(response), "*", "")
	for _, p := range l.patterns {
		if m := p.FindStringSubmatch(response); m != nil {
			return m[1]
		}
	}
	return ""
}

// firstOption is first_option_postprocess of OpenCompass: the first pattern that is found anywhere and whose group (or,
// if that is empty, whose whole match) holds a letter decides; of several letters in it the first of the alphabet is
// taken.
func (l *LongBench2) firstOption(response string) string {
	for _, p := range l.patterns {
		m := p.FindStringSubmatch(response)
		if m == nil {
			continue
		}
		found := m[1]
		if found == "" {
			found = m[0]
		}
		for _, letter := range []string{"A", "B", "C", "D"} {
			if strings.Contains(found, letter) {
				return letter
			}
		}
	}
	return ""
}

// patterns lists what a protocol looks for, in order. The authors have two phrases. OpenCompass has some fifty, most of
// them Chinese, and in the end takes any letter at all; a comma missing in its source joins two of them into one.
func patterns(p Protocol) []string {
	if p == THUDM {
		return []string{`The correct answer is \(([A-D])\)`, `The correct answer is ([A-D])`}
	}
	// In the list, @ stands for a letter to be captured, and white space is Python's.
	const white = `\t-\r\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`
	long := strings.NewReplacer(`@`, `([A-D])`, `[\s`, `[`+white, `\s`, `[`+white+`]`, `\S`, `[^`+white+`]`)
	var all []string
	add := func(before string, list ...string) {
		for _, s := range list {
			all = append(all, `(?s)`+long.Replace(before+s))
		}
	}
	add(`答案`, `是?\s*@`, `是?\s*：\s*@`, `是?\s*:\s*@`, `选项应?该?是\s*@`, `选项应?该?为\s*@`, `应该?是\s*@`, `应该?选\s*@`,
		`选项为?\s*：\s*@`, `选项为?\s+\(?\*?\*?@\*?\*?\)?`, `选项是?\s*:\s*@`, `为\s*@`, `选\s*@`)
	add(``, `选择?\s*@`, `故选?\s*@只有选?项?\s?@\s?是?对`)
	add(`只有选?项?\s?@\s?`, `是?错`, `不?正确`, `错误`)
	add(`说法`, `不?对选?项?的?是\s?@`, `不?正确选?项?的?是\s?@`, `错误选?项?的?是\s?@`)
	add(`@\s?是正确`, `的`, `答案`)
	add(``, `选项\s?@\s?正确`, `所以答\s?@`, `所以\s?([A-D][.。$]?$)`, `所有\s?([A-D][.。$]?$)`)
	add(``, `[\s，：:,]@[。，,.]?$`, `[\s，,：:][故即]@[。.]?$`, `[\s，,：:]因此@[。.]?$`)
	add(``, `[是为。]\s?@[。.]?$`, `因此\s?@[。.]?$`, `显然\s?@[。.]?$`)
	add(`答案`, `是\s?(\S+)(?:。|$)`, `应该是\s?(\S+)(?:。|$)`, `为\s?(\S+)(?:。|$)`)
	add(`(?i)`, `ANSWER\s*:\s*@`)
	add(`[Tt]he `, `answer is:?\s+\(?@\)?`, `answer is:?\s+\(?\*?\*?@\*?\*?\)?`, `answer is option:?\s+\(?@\)?`,
		`correct answer is:?\s+\(?@\)?`, `correct answer is option:?\s+\(?@\)?`, `correct answer is:?.*?boxed\{@\}`,
		`correct option is:?.*?boxed\{@\}`, `correct answer option is:?.*?boxed\{@\}`,
		`answer to the question is:?\s+\(?@\)?`)
	add(``, `^选项\s?@`, `^@\s?选?项`, `(\s|^)[A-D][\s。，,：:.$]`, `1.\s?(.*?)$`, `1.\s?@[.。$]?$`, `@:`, `@`)
	return all
}
