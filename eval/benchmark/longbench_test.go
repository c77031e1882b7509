package benchmark

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pbs-run/pbs-run/eval"
	"github.com/pbs-run/pbs-run/eval/metric"
	"github.com/pbs-run/pbs-run/internal/testfiles"
)

// byteTokens is a tokenizer of bytes behind one BOS, 256.
func byteTokens() Tokens {
	return Tokens{
		Encode: func(text string) ([]int32, error) {
			ids := []int32{256}
			for i := range len(text) {
				ids = append(ids, int32(text[i]))
			}
			return ids, nil
		},
		Decode: func(ids []int32) (string, error) {
			var b []byte
			for _, id := range ids {
				if id < 256 {
					b = append(b, byte(id))
				}
			}
			return strings.ToValidUTF8(string(b), "\ufffd"), nil
		},
	}
}

// wording is a synthetic config of LongBench.
func wording(t *testing.T) string {
	t.Helper()
	prompts, lengths := map[string]string{}, map[string]int{}
	for i, task := range metric.LongBenchDatasets() {
		prompts[task], lengths[task] = task+" asconcisely {context}|{input}", 100+i
	}
	return testfiles.Tree(t, map[string]string{"LongBench/config/dataset2prompt.json": toJSON(t, prompts), "LongBench/config/dataset2maxlen.json": toJSON(t, lengths)})
}

const row = `{"input": "Q {context}", "context": "text {input} {answers}", "answers": ["A"], "length": 7, "all_classes": null, "_id": "r1"}`

func load(t *testing.T, b LongBench, task string) eval.Task {
	t.Helper()
	tasks, err := b.Load([]string{task})
	if err != nil {
		t.Fatal(err)
	}
	return tasks[0]
}

func first(t *testing.T, task eval.Task) eval.Request {
	t.Helper()
	r, err := task.Item(0).First()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestProtocols: what differs between the official script and OpenCompass, and nothing else.
func TestProtocols(t *testing.T) {
	files := map[string]string{}
	for _, task := range metric.LongBenchDatasets() {
		files[task+".jsonl"] = row + "\n"
	}
	b := LongBench{Source: Source{Data: testfiles.Tree(t, files)}, Config: wording(t), MaxLength: 1000, Model: "m", Tokens: byteTokens()}
	for _, task := range metric.LongBenchDatasets() {
		b.Protocol = THUDM
		r := first(t, load(t, b, task))
		if r.User != task+" asconcisely text {input} {answers}|Q {context}" || r.Plain != withoutTemplate(task) || r.KeepLast != 0 || r.KeepSpecial ||
			r.StopNewline != (task == "samsum") || (r.MinNew == 1) != (task == "samsum") || r.Temperature != 0 {
			t.Errorf("thudm %s: %+v", task, r)
		}
		b.Protocol = OpenCompass
		r = first(t, load(t, b, task))
		// {input} goes in first, so that a field in it is replaced too, and one in the context is not.
		want, maxNew := task+" asconcisely text {input} |Q text {input} ", r.MaxNew
		switch task {
		case "narrativeqa":
			want = strings.Replace(want, "asconcisely", "as concisely", 1)
		case "qasper":
			want, maxNew = strings.Replace(want, "qasper", "hotpotqa", 1), 32
		case "multi_news":
			want += "\n"
		}
		if r.User != want || r.MaxNew != maxNew || r.Plain || r.StopNewline || r.MinNew != 0 || r.KeepLast != 1000 || !r.KeepSpecial {
			t.Errorf("opencompass %s: %+v, want %q", task, r, want)
		}
	}
}

func TestLongBenchCutsTheMiddle(t *testing.T) {
	long := strings.Replace(row, "text {input} {answers}", strings.Repeat("é", 500), 1)
	b := LongBench{Source: Source{Data: testfiles.Tree(t, map[string]string{"trec.jsonl": long})}, Config: wording(t), Protocol: THUDM, MaxLength: 43, Tokens: byteTokens()}
	// 21 tokens at each end, the BOS one of them; both cuts go through a character.
	if got, want := first(t, load(t, b, "trec")).User, "trec asconcisely é\ufffd\ufffdéééé|Q {context}"; got != want {
		t.Errorf("cut to %q, want %q", got, want)
	}
	b.MaxLength = 1
	if _, err := b.Load([]string{"trec"}); err == nil {
		t.Error("--max-length 1: no error")
	}
}

// TestLines: predictions have the official fields and _id; a sample that failed has an empty answer and the reason.
func TestLines(t *testing.T) {
	b := LongBench{Source: Source{Data: testfiles.Tree(t, map[string]string{"qasper.jsonl": row})}, Config: wording(t), Protocol: THUDM, MaxLength: 99, Model: "m", Tokens: byteTokens()}
	task := load(t, b, "qasper")
	if task.File != "pred/m/qasper.jsonl" {
		t.Errorf("file %s", task.File)
	}
	if got := toJSON(t, task.Item(0).Line([]string{" x"}, "")); got != `{"pred":" x","answers":["A"],"all_classes":null,"length":7,"_id":"r1"}` {
		t.Errorf("line %s", got)
	}
	if got := toJSON(t, task.Item(0).Line(nil, "why")); got != `{"pred":"","answers":["A"],"all_classes":null,"length":7,"_id":"r1","error":"why"}` {
		t.Errorf("line %s", got)
	}
	b.E = true
	b.Data = testfiles.Tree(t, map[string]string{"qasper_e.jsonl": row})
	if task := load(t, b, "qasper"); task.File != "pred_e/m/qasper.jsonl" {
		t.Errorf("file of LongBench-E %s", task.File)
	}
}

// TestBadRows is row 45 of the faults: a bad row is an error with its line, or left out and counted.
func TestBadRows(t *testing.T) {
	for want, bad := range map[string]string{
		"line 2: invalid character":                        `{"input": }`,
		"line 2: field context: missing":                   strings.Replace(row, `"context": "text {input} {answers}", `, "", 1),
		"line 2: field answers: missing":                   strings.Replace(row, `["A"]`, "null", 1),
		"line 2: field answers: want []string":             strings.Replace(row, `["A"]`, `"A"`, 1),
		"line 2: field length: want int":                   strings.Replace(row, "7", `"7"`, 1),
		`line 2: "r1" is the ID of line 1 too`:             row,
		"line 2: want a JSON object":                       `[1]`,
		"line 2: longer than 32 MiB":                       `{"context": "` + strings.Repeat("x", 50<<20) + `"}`,
		"line 2: invalid character '[' exceeded max depth": `{"a":` + strings.Repeat("[", 1_000_000),
	} {
		data := testfiles.Tree(t, map[string]string{"qasper.jsonl": row + "\n" + bad + "\n" + strings.Replace(row, "r1", "r3", 1) + "\n"})
		b := LongBench{Source: Source{Data: data}, Config: wording(t), Protocol: THUDM, MaxLength: 99, Tokens: byteTokens()}
		if _, err := b.Load([]string{"qasper"}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "qasper.jsonl") || !strings.Contains(err.Error(), "--skip-bad") {
			t.Errorf("%v; want an error with %q", err, want)
		}
		b.SkipBad = true
		task := load(t, b, "qasper")
		if strings.Join(task.IDs, ",") != "r1,r3" || len(task.Skipped) != 1 || !strings.Contains(task.Skipped[0], want) {
			t.Errorf("%s: kept %q, skipped %q", want, task.IDs, task.Skipped)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	data := testfiles.Tree(t, map[string]string{"qasper.jsonl": row})
	for want, config := range map[string]string{
		"pass --config DIR, a checkout of github.com/THUDM/LongBench": "",
		"get it from github.com/THUDM/LongBench":                      filepath.Join(data, "absent"),
		"none of dataset2":                                            data,
		"no prompt for qasper":                                        testfiles.Tree(t, map[string]string{"dataset2prompt.json": "{}", "dataset2maxlen.json": "{}"}),
		"no length for qasper":                                        testfiles.Tree(t, map[string]string{"dataset2prompt.json": `{"qasper":"x"}`, "dataset2maxlen.json": "{}"}),
		"dataset2prompt.json: unexpected end":                         testfiles.Tree(t, map[string]string{"dataset2prompt.json": `{`, "dataset2maxlen.json": "{}"}),
	} {
		_, err := LongBench{Source: Source{Data: data}, Config: config, Protocol: THUDM, MaxLength: 9}.Load([]string{"qasper"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an error with %q", err, want)
		}
	}
	b := LongBench{Source: Source{Data: data}, Config: wording(t), Protocol: THUDM, MaxLength: 9}
	if _, err := b.Load([]string{"nosuch"}); err == nil || !strings.Contains(err.Error(), "known are narrativeqa") {
		t.Errorf("unknown task: %v", err)
	}
	if _, err := b.Load([]string{"trec"}); err == nil || !strings.Contains(err.Error(), "trec") {
		t.Errorf("data that is not there: %v", err)
	}
}

// TestDigest: the hash of a task follows its rows and its wording.
func TestDigest(t *testing.T) {
	config := wording(t)
	digestOf := func(row, config string) string {
		b := LongBench{Source: Source{Data: testfiles.Tree(t, map[string]string{"qasper.jsonl": row})}, Config: config, Protocol: THUDM, MaxLength: 99}
		return load(t, b, "qasper").Digest
	}
	same, other := digestOf(row, config), testfiles.Tree(t, map[string]string{"dataset2prompt.json": `{"qasper":"{context}"}`, "dataset2maxlen.json": `{"qasper":9}`})
	if same != digestOf(row, config) || same == digestOf(strings.Replace(row, "text", "test", 1), config) || same == digestOf(row, other) {
		t.Error("the digest does not follow what prompts are made from")
	}
}

func TestDefaultMaxLength(t *testing.T) {
	for positions, want := range map[int]int{4096: 3500, 8192: 7500, 16384: 15500, 32768: 31500, 131072: 127500, 512: 2} {
		if got := DefaultMaxLength(positions); got != want {
			t.Errorf("%d positions: %d, want %d", positions, got, want)
		}
	}
}

const row2 = `{"_id": "q1", "domain": "D", "sub_domain": "S", "difficulty": "easy", "length": "short", "question": " q $C_A$ ",
 "choice_A": "a", "choice_B": "b", "choice_C": "c", "choice_D": "d", "answer": "B", "context": " doc $Q$ {question} é"}`

func TestLongBench2(t *testing.T) {
	config := testfiles.Tree(t, map[string]string{
		"prompts/0shot.txt": "$DOC$|$Q$|$C_A$$C_B$$C_C$$C_D$", "prompts/0shot_cot.txt": "think $DOC$", "prompts/0shot_cot_ans.txt": "$Q$ so $COT$ $DOC$",
		"longbenchv2.txt": "{context}|{question}|{choice_B}",
	})
	b := LongBench2{
		Source: Source{Data: testfiles.Tree(t, map[string]string{"data.json": "[" + row2 + "]"})}, Config: config, Protocol: THUDM, Prompt: ZeroShot, MaxLength: 1000, Seed: 1,
		Model: "m", Tokens: byteTokens(), Letter: func(s string) string { return map[string]string{"The answer": "B"}[s] },
	}
	load := func() eval.Item {
		task, err := b.Load()
		if err != nil {
			t.Fatal(err)
		}
		return task.Item(0)
	}
	item := load()
	r, err := item.First()
	if err != nil || r.User != "doc q a {question} é|q a|abcd" || r.MaxNew != 128 || r.Temperature != 0.1 || r.Plain {
		t.Errorf("request %+v, %v", r, err)
	}
	again, _ := load().First()
	b.Seed = 2
	if other, _ := load().First(); again.Seed != r.Seed || other.Seed == r.Seed {
		t.Errorf("seeds %d, %d, %d", r.Seed, again.Seed, other.Seed)
	}
	line := func(answers []string, failure string) longBench2Line {
		l, _ := item.Line(answers, failure).(longBench2Line)
		return l
	}
	if l := line([]string{" The answer\n"}, ""); l.Response != "The answer" || *l.Pred != "B" || !l.Judge {
		t.Errorf("line %+v", l)
	}
	if l := toJSON(t, line([]string{"?"}, "")); !strings.Contains(l, `"response":"?","pred":null,"judge":false}`) {
		t.Errorf("row 47, an answer without a letter: %s", l)
	}
	if l := toJSON(t, line(nil, "lost")); !strings.Contains(l, `"response":"","pred":null,"judge":false,"error":"lost"}`) {
		t.Errorf("row 47, a request that failed: %s", l)
	}

	b.Prompt = CoT
	item = load()
	r, _ = item.First()
	second, err := item.Second(" thought $DOC$ ")
	if err != nil || r.User != "think doc q a {question} é" || r.MaxNew != 1024 || second.MaxNew != 128 || second.Seed == r.Seed ||
		second.User != "q a so thought $DOC$ doc q a {question} é" {
		t.Errorf("chain of thought: %+v, %+v, %v", r, second, err)
	}
	if l := line([]string{" thought ", "The answer"}, ""); *l.ResponseCoT != "thought" || !l.Judge {
		t.Errorf("line of a chain of thought %+v", l)
	}

	b.Protocol, b.Prompt = OpenCompass, ZeroShot
	r, err = load().First()
	if err != nil || r.User != " doc $Q$ {question} é| q $C_A$ |b" || r.Temperature != 0 || r.MaxNew != 2048 || r.KeepLast != 1000 || !r.KeepSpecial {
		t.Errorf("opencompass: %+v, %v", r, err)
	}
	b.Prompt = CoT
	if _, err := b.Load(); err == nil {
		t.Error("OpenCompass has no --cot, no error")
	}
}

// TestOpenCompassWording reads the prompt out of a config of OpenCompass.
func TestOpenCompassWording(t *testing.T) {
	dir := testfiles.Tree(t, map[string]string{"opencompass/configs/datasets/longbenchv2/longbenchv2_gen_75fbba.py": "x = dict(\n  prompt='read\\n{context}' \"’s\",\n)"})
	if got, err := openCompass2(dir); got != "read\n{context}’s" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := openCompass2(testfiles.Tree(t, map[string]string{"longbenchv2_gen_75fbba.py": "x = 1"})); err == nil {
		t.Errorf("no prompt: %q", got)
	}
}

// TestDrawSeed: the draws depend on the seed, the row and the call.
func TestDrawSeed(t *testing.T) {
	seen := map[uint64]bool{drawSeed(1, "a", 1): true, drawSeed(2, "a", 1): true, drawSeed(1, "b", 1): true, drawSeed(1, "a", 2): true}
	if len(seen) != 4 {
		t.Error("two of four seeds are the same")
	}
}

func TestInfiniteBench(t *testing.T) {
	config := testfiles.Tree(t, map[string]string{
		"src/prompt.py":     "gpt4_templates = {'code_run': '{func} {func_call} {context}', 'math_find': '{prefix} {context} {input}', 'passkey': '{context} {input}', 'kimi': '{file:{context}}'}\n",
		"src/eval_utils.py": "def create_system_msg(x):\n    return \"\"\"You\ncalculate\"\"\"\n",
	})
	data := testfiles.Tree(t, map[string]string{
		"code_run.jsonl":  `{"id": 3, "context": "{func}", "input": "return value of func_12(-4).", "answer": [10], "options": []}`,
		"math_find.jsonl": `{"id": 0, "context": "[1]", "input": "x The 2nd Largest number of the list", "answer": [1.5], "options": []}`,
		"math_calc.jsonl": `{"id": 0, "context": "1 + 2", "input": "", "answer": [1, 3], "options": []}`,
		"passkey.jsonl":   `{"id": 0, "context": "c", "input": "i", "answer": ["1"], "options": []}`,
	})
	b := InfiniteBench{Source: Source{Data: data}, Config: config, Family: "gpt4", Chat: true, MaxLength: 100, Model: "m", Tokens: byteTokens()}
	tasks, err := b.Load([]string{"code_run", "math_find", "math_calc", "passkey"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"func_12 func_12(-4) {func}", "What is the 2nd largest number in the following list? [1] x The 2nd Largest number of the list", "1 + 2", "c i"} {
		r := first(t, tasks[i])
		if r.User != want || r.Plain || r.Before[0].Role != "system" {
			t.Errorf("%s: %+v, want %q", tasks[i].Name, r, want)
		}
	}
	if turns := first(t, tasks[2]).Before; len(turns) != 3 || turns[0].Content != "You\ncalculate" {
		t.Errorf("turns of math_calc: %+v", turns)
	}
	if got := toJSON(t, tasks[0].Item(0).Line([]string{"7"}, "")); got != `{"index":0,"pred":"7","label":[10],"model_name":"gpt4"}` {
		t.Errorf("line %s", got)
	}
	for want, bad := range map[string]string{
		"names no number": `{"id": 0, "context": "", "input": "largest", "answer": [1]}`, "field context: missing": `{"input": "The x of", "answer": [1]}`,
	} {
		b.Data = testfiles.Tree(t, map[string]string{"math_find.jsonl": bad})
		if _, err := b.Load([]string{"math_find"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b.Family = "gpt5"
	if _, err := b.Load([]string{"passkey"}); err == nil || !strings.Contains(err.Error(), "yarn-mistral") {
		t.Errorf("unknown family: %v", err)
	}
	b.Family, b.Config = "kimi", filepath.Join(testfiles.Tree(t, map[string]string{"p.json": `{"kimi": {"passkey": "{context}"}}`}), "p.json")
	b.Data = data
	if tasks, err := b.Load([]string{"passkey"}); err != nil || first(t, tasks[0]).User != "c" {
		t.Errorf("templates from JSON: %v", err)
	}
}

func TestInfiniteLabels(t *testing.T) {
	for answer, want := range map[string]string{
		`"y"`: `["y","B"]`, `["z"]`: `["z","C"]`, `["y","B"]`: `["y","B"]`, `["q"]`: "none of", `[]`: "one or two", `["y","Q"]`: "no letter", `7`: "want a text",
	} {
		r := infiniteRow{Answer: json.RawMessage(answer), Options: []string{"x", "y", "z", "w"}}
		got, err := r.labelOf("code_debug")
		if string(got) != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %s, %v; want %s", answer, got, err, want)
		}
	}
}

// TestRULERRows reads rows as RULER's own scripts write them.
func TestRULERRows(t *testing.T) {
	row := `{"index": 99, "input": "in", "outputs": ["o"], "length": 12, "answer_prefix": " The"}`
	dir := testfiles.Tree(t, map[string]string{"vt/validation.jsonl": row + "\n" + row, "vt/train.jsonl": row, "cwe.jsonl": row, "fwe/a.jsonl": row, "fwe/b.jsonl": row})
	task, err := RULER{Source: Source{Data: dir}, Model: "m"}.Load("vt", 30)
	if err != nil {
		t.Fatal(err)
	}
	r := first(t, task)
	if len(task.IDs) != 2 || task.IDs[1] != "1" || r.User != "in" || r.Prefix != " The" || r.MaxNew != 30 {
		t.Errorf("ids %q, %+v", task.IDs, r)
	}
	if got := toJSON(t, task.Item(1).Line([]string{"p"}, "")); got != `{"index":1,"pred":"p","outputs":["o"],"length":12}` {
		t.Errorf("line %s", got)
	}
	if _, err := (RULER{Source: Source{Data: dir}}).Load("cwe", 30); err != nil {
		t.Error(err)
	}
	if _, err := (RULER{Source: Source{Data: dir}}).Load("fwe", 30); err == nil || !strings.Contains(err.Error(), "a.jsonl") {
		t.Errorf("two files: %v", err)
	}
}
