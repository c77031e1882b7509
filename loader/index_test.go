package loader

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	shard1 = "model-00001-of-00002.safetensors"
	shard2 = "model-00002-of-00002.safetensors"
)

func shardWith(names ...string) string {
	var members []string
	for i, name := range names {
		members = append(members, fmt.Sprintf(`%q:{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}`, name, 4*i, 4*i+4))
	}
	return string(safetensorsFile("{"+strings.Join(members, ",")+"}", 4*len(names)))
}

func TestIndex(t *testing.T) {
	mapped := func(members string) string { return `{"weight_map":{` + members + `}}` }
	both := mapped(`"a":"` + shard1 + `","b":"` + shard2 + `"`)
	tests := []struct {
		name  string
		files []string
		want  []string // parts of the error; none where it opens
	}{
		{"two shards", []string{shard1, shardWith("a"), shard2, shardWith("b"), indexName, both}, nil},
		{"missing shard", []string{shard1, shardWith("a"), indexName, both}, []string{shard2, indexName}},
		{"broken shard", []string{shard1, shardWith("a"), shard2, "x", indexName, both}, []string{shard2, "header too small"}},
		{"not in its shard", []string{shard1, shardWith("a"), shard2, shardWith("c"), indexName, both}, []string{shard2, `"b"`, indexName}},
		{"in another shard", []string{shard1, shardWith("b"), shard2, shardWith("a"), indexName, both}, []string{shard1, `"a"`, indexName}},
		{"not in the index", []string{shard1, shardWith("a", "z"), shard2, shardWith("b"), indexName, both}, []string{shard1, `"z"`, indexName}},
		{"in two shards", []string{shard1, shardWith("a"), shard2, shardWith("a", "b"), indexName, both}, []string{shard1, shard2, `"a"`}},
		{"not JSON", []string{indexName, "{"}, []string{indexName, "line 1"}},
		{"list", []string{indexName, "[]"}, []string{indexName, "not a JSON object"}},
		{"null", []string{indexName, "null"}, []string{indexName, "weight_map"}},
		{"no weight_map", []string{indexName, "{}"}, []string{indexName, "weight_map"}},
		{"empty weight_map", []string{indexName, mapped("")}, []string{indexName, "weight_map"}},
		{"weight_map in another case", []string{indexName, `{"Weight_Map":{"a":"x.safetensors"}}`}, []string{"weight_map must"}},
		{"number as file", []string{indexName, mapped(`"a":1`)}, []string{"weight_map must"}},
		{"null as file", []string{indexName, mapped(`"a":null`)}, []string{`weight_map["a"]`, "plain file name"}},
		{"tensor twice", []string{indexName, mapped(`"a":"x.safetensors","a":"y.safetensors"`)}, []string{indexName, `"a" given twice`}},
		{"text after", []string{indexName, both + "x"}, []string{indexName, "text after"}},
		{"deep", []string{indexName, strings.Repeat("[", 1_000_000)}, []string{indexName, "nested deeper"}},
		{"pickle shards", []string{indexName, mapped(`"a":"pytorch_model-00001-of-00002.bin"`)}, []string{"safetensors only"}},
	}
	for _, name := range []string{"../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "sub/x.safetensors", ".", "..", "",
		`..\\x.safetensors`, `C:x.safetensors`, `x.safetensors\u0000`, ".hidden.safetensors"} {
		tests = append(tests, struct {
			name  string
			files []string
			want  []string
		}{"shard " + name, []string{indexName, mapped(`"a":"` + name + `"`)}, []string{indexName, `weight_map["a"]`, "plain file name"}})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := put(t, test.files...)
			c, err := Open(dir)
			if test.want != nil {
				wantError(t, err, append(test.want, dir)...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if len(c.Warnings()) > 0 || len(c.Tensors()) != 2 {
				t.Errorf("warnings %q, tensors %v", c.Warnings(), c.Tensors())
			}
		})
	}
}

func TestIndexWarnings(t *testing.T) {
	for _, test := range []struct{ total, want string }{
		{`8`, ""},
		{` 8 `, ""},
		{`9`, `total_size is "9", the tensors have 8 bytes`},
		{`"8"`, `total_size is "\"8\""`},
		{`-1`, `total_size is "-1"`},
	} {
		index := `{"metadata":{"total_size":` + test.total + `},"weight_map":{"a":"` + shard1 + `","b":"` + shard2 + `"}}`
		c := mustOpen(t, put(t, shard1, shardWith("a"), shard2, shardWith("b"), indexName, index))
		got := strings.Join(c.Warnings(), "\n")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("total_size %s: warnings %q, want %q", test.total, got, test.want)
		}
	}
	c := mustOpen(t, put(t, singleName, shardWith("a"), indexName, "{}"))
	if got := strings.Join(c.Warnings(), "\n"); !strings.Contains(got, "index is ignored") {
		t.Errorf("single file and index: warnings %q", got)
	}
}

func TestNoWeights(t *testing.T) {
	for _, test := range []struct {
		files []string
		want  []string
	}{
		{[]string{"config.json"}, []string{singleName, indexName}},
		{[]string{"pytorch_model.bin"}, []string{`"pytorch_model.bin"`, "safetensors only"}},
		{[]string{"model-q4.gguf", "consolidated.00.pth"}, []string{`"model-q4.gguf"`, `"consolidated.00.pth"`, "safetensors only"}},
		{[]string{"adapter.safetensors", "a.bin"}, []string{`"adapter.safetensors"`, "rename"}},
	} {
		var files []string
		for _, name := range test.files {
			files = append(files, name, "x")
		}
		dir := put(t, files...)
		_, err := Open(dir)
		wantError(t, err, append(test.want, dir)...)
	}
}

func TestLinks(t *testing.T) {
	link := func(t *testing.T, target, path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Skip("no links here:", err)
		}
	}
	t.Run("cache snapshot", func(t *testing.T) {
		repo := put(t, "blobs/0123", shardWith("a"))
		dir := filepath.Join(repo, "snapshots", "c0ffee")
		link(t, "../../blobs/0123", filepath.Join(dir, singleName))
		mustOpen(t, dir)
		link(t, dir, filepath.Join(repo, "elsewhere"))
		mustOpen(t, filepath.Join(repo, "elsewhere"))
	})
	t.Run("within the folder", func(t *testing.T) {
		dir := put(t, "weights.st", shardWith("a"))
		link(t, "weights.st", filepath.Join(dir, singleName))
		mustOpen(t, dir)
	})
	t.Run("out of the folder", func(t *testing.T) {
		repo := put(t, "model/config.json", "{}", "other.safetensors", shardWith("a"))
		link(t, "../other.safetensors", filepath.Join(repo, "model", singleName))
		_, err := Open(filepath.Join(repo, "model"))
		wantError(t, err, singleName, "a link out of the model's folder", "other.safetensors")
	})
	t.Run("out of the folder by index", func(t *testing.T) {
		repo := put(t, "model/"+indexName, `{"weight_map":{"a":"x.safetensors"}}`, "other.safetensors", shardWith("a"))
		link(t, "../other.safetensors", filepath.Join(repo, "model", "x.safetensors"))
		_, err := Open(filepath.Join(repo, "model"))
		wantError(t, err, "x.safetensors", "a link out of the model's folder")
	})
	for _, test := range []struct{ name, blob, dir, target string }{
		{"out of the cached repository", "one/blobs/0123", "two/snapshots/c0ffee", "../../../one/blobs/0123"},
		{"below the blobs", "blobs/sub/0123", "snapshots/c0ffee", "../../blobs/sub/0123"},
		{"blobs beside what is no snapshot", "blobs/0123", "other/c0ffee", "../../blobs/0123"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(put(t, test.blob, shardWith("a")), test.dir)
			link(t, test.target, filepath.Join(dir, singleName))
			_, err := Open(dir)
			wantError(t, err, "a link out of the model's folder")
		})
	}
	t.Run("to nothing", func(t *testing.T) {
		dir := put(t, "config.json", "{}")
		link(t, "../../blobs/0123", filepath.Join(dir, singleName))
		_, err := Open(dir)
		wantError(t, err, singleName, "incomplete")
	})
	t.Run("to itself", func(t *testing.T) {
		dir := put(t, "config.json", "{}")
		link(t, singleName, filepath.Join(dir, singleName))
		_, err := Open(dir)
		wantError(t, err, singleName)
	})
}
