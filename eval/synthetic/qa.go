package synthetic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// RULER's wording of question answering (Apache-2.0). The instruction stands before and behind the documents.
const (
	questionIntro = "Answer the question based on the given documents. " +
		"Only give me the answer and do not output any other words.\n\nThe following are given documents.\n\n"
	questionAsk = "\n\nAnswer the question based on the given documents. " +
		"Only give me the answer and do not output any other words.\n\nQuestion: "
	questionPrefix = " Answer:"
)

// Questions are a question answering set: documents, and questions that some of them answer.
type Questions struct {
	documents []string // sorted, each once
	questions []question
}

// A question names its documents by their index.
type question struct {
	text    string
	answers []string
	gold    []int // always among the prompt's documents: SQuAD's paragraph, HotpotQA's ten
	near    []int // taken before any other: the other paragraphs of SQuAD's article
}

// newQuestionTask returns qa_1 or qa_2. As in RULER, sample i asks question i of the file. The unit of filling is a
// document beside the gold ones.
func newQuestionTask(name string, q *Questions, from source) (task, error) {
	if q == nil {
		return task{}, fmt.Errorf("%s needs the %s: pass %s FILE; the file is at %s", name, from.name, from.flag, from.url)
	}
	build := func(rng *rand.Rand, index, size int) item {
		asked := q.questions[index]
		var b strings.Builder
		b.WriteString(questionIntro)
		for i, d := range q.pick(rng, asked, size) {
			if i > 0 {
				b.WriteString("\n\n")
			}
			fmt.Fprintf(&b, "Document %d:\n%s", i+1, q.documents[d])
		}
		b.WriteString(questionAsk + asked.text)
		return item{prompt: Prompt{User: b.String(), Prefix: questionPrefix}, outputs: asked.answers}
	}
	return task{name: name, maxNew: 32, probe: 10, samples: len(q.questions), build: build}, nil
}

// pick returns the documents of a prompt in random order: the gold ones and size others, near ones first. Where
// there are not so many, all of them are taken again from the first on.
func (q *Questions) pick(rng *rand.Rand, asked question, size int) []int {
	var docs []int
	if total := len(asked.gold) + size; total >= len(q.documents) {
		for i := range total {
			docs = append(docs, i%len(q.documents))
		}
	} else {
		near := slices.Clone(asked.near)
		rng.Shuffle(len(near), func(i, j int) { near[i], near[j] = near[j], near[i] })
		docs = append(slices.Clone(asked.gold), near[:min(size, len(near))]...)
		used := make(map[int]bool, total)
		for _, d := range docs {
			used[d] = true
		}
		for _, d := range rng.Perm(len(q.documents)) {
			if len(docs) >= total {
				break
			}
			if !used[d] {
				docs = append(docs, d)
			}
		}
	}
	rng.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
	return docs
}
