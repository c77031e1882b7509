package loader

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nlpodyssey/safetensors"
)

// FuzzSafetensorsHeader feeds whole files to the check in front of the parser. What it lets through the parser must take
// too, and see the same tensors.
func FuzzSafetensorsHeader(f *testing.F) {
	for _, header := range []string{
		"{}", "{" + tensorA + "," + tensorB + "}", `{"__metadata__":{"format":"pt"},` + tensorA + "}   ",
		`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, `{"e":{"dtype":"U8","shape":[0,7],"data_offsets":[0,0]}}`,
		"{" + tensorA + "," + tensorA + "}", `{"\u0061\ud83d\ude00":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}`, `{"a":{"dtype":"U8","shape":[18446744073709551615,0],"data_offsets":[0,0]}}`,
		"null", " {}", "{}\n", `{"a":[[[[`, `{"__metadata__":{"a":1}}`,
	} {
		for _, n := range []int{0, 4, 12, 28} {
			f.Add(safetensorsFile(header, n))
		}
	}
	f.Add([]byte{})
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := checkHeader(file); err != nil {
			wantError(t, err)
			return
		}
		parsed, err := safetensors.Deserialize(file)
		if err != nil {
			t.Fatalf("the parser refuses what the check lets through: %v", err)
		}
		seen := map[string]bool{}
		for _, v := range parsed.Tensors() {
			if seen[v.Name] {
				t.Errorf("tensor %q twice", v.Name)
			}
			seen[v.Name] = true
			n := v.TensorView.DType().Size()
			for _, d := range v.TensorView.Shape() {
				n *= d
			}
			if n != v.TensorView.DataLen() {
				t.Errorf("tensor %q has %d bytes instead of %d", v.Name, v.TensorView.DataLen(), n)
			}
		}
	})
}

// FuzzIndexJSON feeds index files to the parser, and holds what it accepts to plain names in one folder.
func FuzzIndexJSON(f *testing.F) {
	for _, text := range []string{
		`{"metadata":{"total_size":8},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}`, `{"weight_map":{}}`, `{}`, `null`, `[]`,
		`{"weight_map":{"a":"../x.safetensors"}}`, `{"weight_map":{"a":"/x.safetensors"}}`, `{"weight_map":{"a":"x\u0000.safetensors"}}`,
		`{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`, `{"weight_map":{"a":null}}`, `{"weight_map":[`,
		`{"metadata":null,"weight_map":{"":"\ud83d\ude00.safetensors"}}`, `{"weight_map":{"a":"x.bin"}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseIndex(text)
		if err != nil {
			wantError(t, err)
			return
		}
		if len(list.files) == 0 || len(list.files) > len(list.weightMap) {
			t.Errorf("%d files for %d tensors", len(list.files), len(list.weightMap))
		}
		for _, name := range list.files {
			if filepath.Base(name) != name || name == "." || name == ".." || filepath.Dir(filepath.Join("/model", name)) != "/model" {
				t.Errorf("%q is not a plain name", name)
			}
			if strings.ContainsAny(name, "\x00\\:") || !strings.HasSuffix(name, ".safetensors") {
				t.Errorf("%q is allowed", name)
			}
		}
	})
}

// FuzzCheckJSON compares the strict check with encoding/json: it must never accept what that package refuses.
func FuzzCheckJSON(f *testing.F) {
	for _, text := range []string{`{"a":[1,-2.5e+3,"\u00e9\ud800",true,null]}`, `[[[`, `{"a":1,"a":2}`, "\"\xff\"", `01`, ` [ ] `} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		err := checkJSON(text)
		if err == nil && !json.Valid(text) {
			t.Errorf("accepts %q", text)
		}
		if err != nil {
			wantError(t, err)
		}
	})
}

// FuzzRepoID looks names up in an empty cache: none may be found, nor anything outside the cache be named.
func FuzzRepoID(f *testing.F) {
	for _, id := range []string{"org/name", "../../x", "a/b/c", "a\x00/b", "", "/", "a/", "-a/b", "a--b/c", "a/b..c", "ü/b", strings.Repeat("a/", 1000), "models--a--b"} {
		f.Add(id)
	}
	hub, err := os.MkdirTemp("", "hub")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(hub) })
	f.Fuzz(func(t *testing.T, id string) {
		if err := checkRepoID(id); err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("error is not one line: %q", err)
			}
			return
		}
		_, err := findSnapshot(id, hub, "a test")
		wantError(t, err, id, "hf download")
		name := "models--" + strings.Replace(id, "/", "--", 1)
		if filepath.Dir(filepath.Join(hub, name)) != hub || strings.Count(name, "--") != 2 {
			t.Errorf("%q becomes %q", id, name)
		}
	})
}
