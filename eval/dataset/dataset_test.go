package dataset

import (
	"archive/zip"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/pbs-run/pbs-run/internal/testfiles"
)

// zipped is an archive as text.
func zipped(t *testing.T, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// all reads the data set called name: its rows, errors among them, one on a line.
func all(t *testing.T, dir, name string) string {
	t.Helper()
	found, err := Find(dir, name)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, s := range found {
		for row, err := range s.Rows() {
			switch {
			case err != nil:
				fmt.Fprintf(&b, "end: %v\n", err)
			case row.Err != nil:
				fmt.Fprintf(&b, "bad: %v\n", row.Err)
			default:
				fmt.Fprintf(&b, "%d %s\n", row.Line, row.JSON)
			}
		}
	}
	return b.String()
}

func TestRows(t *testing.T) {
	two := "{\"a\":1}\n\n  {\"a\":2}  \r\n"
	lines := "1 {\"a\":1}\n3 {\"a\":2}\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"lines":                   {map[string]string{"s.jsonl": two}, lines},
		"lines without an end":    {map[string]string{"s.jsonl": `{"a":1}`}, "1 {\"a\":1}\n"},
		"below data":              {map[string]string{"data/s.jsonl": two}, lines},
		"zip":                     {map[string]string{"data.zip": zipped(t, "__MACOSX/s.jsonl", "x", "data/r.jsonl", "y", "data/s.jsonl", two)}, lines},
		"array":                   {map[string]string{"s.json": "[\n{\"a\":1},\n\n{\"a\":\n2}]"}, "2 {\"a\":1}\n4 {\"a\":\n2}\n"},
		"array in a zip":          {map[string]string{"d.zip": zipped(t, "s.json", `[{"a":1}]`)}, "1 {\"a\":1}\n"},
		"empty":                   {map[string]string{"s.jsonl": ""}, ""},
		"empty array":             {map[string]string{"s.json": " []"}, ""},
		"JSON Lines called .json": {map[string]string{"s.json": two}, lines},
		"glob in a name":          {map[string]string{"s[1].jsonl": "", "s1.jsonl": two}, ""},
	} {
		want := c.want
		set := "s"
		if name == "glob in a name" {
			set, want = "s1", lines
		}
		if got := all(t, testfiles.Tree(t, c.files), set); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestOneFile(t *testing.T) {
	dir := testfiles.Tree(t, map[string]string{"any.name": `{"a":1}`, "d.zip": zipped(t, "s.jsonl", `{"a":2}`)})
	if got := all(t, filepath.Join(dir, "any.name"), "s"); got != "1 {\"a\":1}\n" {
		t.Error(got)
	}
	if got := all(t, filepath.Join(dir, "d.zip"), "s"); got != "1 {\"a\":2}\n" {
		t.Error(got)
	}
}

func TestNotFound(t *testing.T) {
	for _, dir := range []string{t.TempDir(), testfiles.Tree(t, map[string]string{"d.zip": zipped(t, "r.jsonl", "")})} {
		if got := all(t, dir, "s"); !strings.Contains(got, "find data set s in "+dir) || !strings.Contains(got, "inside *.zip") {
			t.Error(got)
		}
	}
	if got := all(t, filepath.Join(t.TempDir(), "absent"), "s"); !strings.Contains(got, "no such file") {
		t.Error(got)
	}
	if got := all(t, testfiles.Tree(t, map[string]string{"d.zip": "no archive"}), "s"); !strings.Contains(got, "not a valid zip") {
		t.Error(got)
	}
}

// TestBadRows is rows 45 and 52 of the faults: bad JSON, rows too long, nesting without end, archives that unpack to
// more than they should. Rows after a bad line are still there; after a bad element of an array nothing can be read.
func TestBadRows(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 1_000_000)
	long := `{"a":"` + strings.Repeat("x", maxRowBytes) + `"}`
	for name, c := range map[string]struct{ file, text, want string }{
		"bad JSON":          {"s.jsonl", "{\"a\":1}\n{\"a\"\n{\"a\":3}", "1 {\"a\":1}\nbad: FILE line 2: unexpected end of JSON input\n3 {\"a\":3}\n"},
		"no object":         {"s.jsonl", "7\n{\"a\":3}", "bad: FILE line 1: want a JSON object, it starts with \"7\"\n2 {\"a\":3}\n"},
		"nested":            {"s.jsonl", deep + "\n{\"a\":3}", "bad: FILE line 1: invalid character '{' exceeded max depth\n2 {\"a\":3}\n"},
		"long":              {"s.jsonl", long + "\n{\"a\":3}", "bad: FILE line 1: longer than 32 MiB\n2 {\"a\":3}\n"},
		"bad element":       {"s.json", "[{\"a\":1},\n{]", "1 {\"a\":1}\nend: read FILE: element that begins on line 1: invalid character ']' looking for beginning of object key string\n"},
		"element no object": {"s.json", "[{\"a\":1},\n7]", "1 {\"a\":1}\nbad: FILE line 2: want a JSON object, it starts with \"7\"\n"},
		"array cut off":     {"s.json", "[{\"a\":1}", "1 {\"a\":1}\nend: read FILE: end of the array: EOF\n"},
		"nested array":      {"s.json", "[" + deep, "end: read FILE: element that begins on line 1: invalid character '{' exceeded max depth\n"},
		"long element":      {"s.json", "[" + long[:len(long)-2] + long[6:] + "]", "end: read FILE: element that begins on line 1: longer than 32 MiB\n"},
		"zip bomb":          {"s.zip", zipped(t, "s.jsonl", strings.Repeat("0", 100<<20)), "bad: FILE:s.jsonl line 1: longer than 32 MiB\n"},
	} {
		dir := testfiles.Tree(t, map[string]string{c.file: c.text})
		want := strings.ReplaceAll(c.want, "FILE", filepath.Join(dir, c.file))
		if got := all(t, dir, "s"); got != want {
			t.Errorf("%s: %.300q, want %q", name, got, want)
		}
	}
}

func TestLimitReader(t *testing.T) {
	l := &limitReader{r: strings.NewReader("12345"), left: 4}
	b := make([]byte, 9)
	if n, err := l.Read(b); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := l.Read(b); n != 0 || err == nil || !strings.Contains(err.Error(), "unpacked") {
		t.Errorf("%d, %v", n, err)
	}
}

func TestStop(t *testing.T) {
	dir := testfiles.Tree(t, map[string]string{"s.jsonl": "{}\n{}\n{}", "r.json": "[{},{},{}]"})
	for _, name := range []string{"s", "r"} {
		found, err := Find(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range found[0].Rows() {
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("%s: %d rows", name, n)
		}
	}
}

type parquetRow struct {
	Context    string   `parquet:"context,snappy"`
	Answers    []string `parquet:"answers,list"`
	AllClasses []string `parquet:"all_classes,list,optional"`
	Length     int64    `parquet:"length"`
	Note       *string  `parquet:"note,optional"`
	Yes        bool     `parquet:"yes"`
}

func parquetFile(t *testing.T, rows []parquetRow) string {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[parquetRow](&b, parquet.MaxRowsPerRowGroup(2))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestParquet(t *testing.T) {
	note := "n"
	file := parquetFile(t, []parquetRow{
		{Context: "c1 \"é\"", Answers: []string{"a", "b"}, Length: 7, Note: &note},
		{Context: "c2", Answers: nil, AllClasses: []string{"k"}, Length: -1, Yes: true},
		{Context: "c3", Answers: []string{""}},
	})
	want := `1 {"all_classes":[],"answers":["a","b"],"context":"c1 \"é\"","length":7,"note":"n","yes":false}
2 {"all_classes":["k"],"answers":[],"context":"c2","length":-1,"note":null,"yes":true}
3 {"all_classes":[],"answers":[""],"context":"c3","length":0,"note":null,"yes":false}
`
	for _, name := range []string{"s.parquet", "s-00000-of-00001.parquet", "s/0000.parquet", "s/test/0000.parquet", "data/s-0.parquet"} {
		if got := all(t, testfiles.Tree(t, map[string]string{name: file}), "s"); got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
	two := all(t, testfiles.Tree(t, map[string]string{"s/0.parquet": file, "s/1.parquet": file}), "s")
	if two != want+want {
		t.Errorf("two files: %s", two)
	}
}

// TestMalformedParquet: whatever a file holds, it is rows or an error.
func TestMalformedParquet(t *testing.T) {
	good := parquetFile(t, []parquetRow{{Context: strings.Repeat("c", 100), Answers: []string{"a"}}})
	for _, text := range []string{"", "PAR1", good[:len(good)/2], good[len(good)/2:], "PAR1" + strings.Repeat("\xff", 100) + "PAR1"} {
		if got := all(t, testfiles.Tree(t, map[string]string{"s.parquet": text}), "s"); !strings.Contains(got, "end: read ") {
			t.Errorf("%d bytes: %q", len(text), got)
		}
	}
	if got := all(t, testfiles.Tree(t, map[string]string{"s.parquet": "PAR1\xff\xff\xff\xffPAR1"}), "s"); !strings.Contains(got, "metadata of 4294967295 bytes in a file of 12") {
		t.Error(got)
	}
}

func FuzzRows(f *testing.F) {
	for _, text := range []string{"{}\n{}", "[{},{}]", "[{", "[\n\n7,{}", "\x00", "{\"a\":[[[["} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "s.jsonl")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		last := 0
		for row, err := range (Source{path: path}).Rows() {
			if err != nil {
				continue
			}
			if row.Line < last || row.Line > 1+bytes.Count(text, []byte("\n")) {
				t.Errorf("line %d after %d", row.Line, last)
			}
			last = row.Line
		}
	})
}

// TestEndlessParquet: a page that says it has more values than it has sends the library round in circles.
func TestEndlessParquet(t *testing.T) {
	err := readParquet("testdata/endless.parquet", 50*time.Millisecond, func(Row) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "no progress") {
		t.Errorf("%v", err)
	}
}
