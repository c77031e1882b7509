package loader

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func verifyText(t *testing.T, dir string, values bool) (Report, string) {
	t.Helper()
	var last, end int64
	r, err := Verify(dir, values, func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last, end = done, total
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != end {
		t.Errorf("progress ended at %d of %d", last, end)
	}
	return r, strings.Join(r.Problems, "\n")
}

func TestVerifyGolden(t *testing.T) {
	for _, name := range []string{"llama3-d128-f32", "llama-f16", "qwen2-d32-bf16-sharded"} {
		r, problems := verifyText(t, filepath.Join(goldenModels, name), true)
		if problems != "" || r.Tensors == 0 || r.Bytes == 0 || len(r.Files) == 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestVerifyFindsAll: Open stops at the first error, Verify does not.
func TestVerifyFindsAll(t *testing.T) {
	dir := put(t, shard1, "x", shard2, string(safetensorsFile("{"+tensorA+"}", 11)), "ok.safetensors", shardWith("c"),
		indexName, `{"weight_map":{"a":"`+shard1+`","b":"`+shard2+`","c":"ok.safetensors","d":"gone.safetensors"}}`)
	r, problems := verifyText(t, dir, true)
	for _, want := range []string{shard1, shard2, "gone.safetensors"} {
		if !strings.Contains(problems, want) {
			t.Errorf("problems %q lack %s", problems, want)
		}
	}
	if len(r.Problems) != 3 || r.Tensors != 1 || len(r.Files) != 1 {
		t.Errorf("got %+v", r)
	}
	_, problems = verifyText(t, put(t, "config.json", "{}"), true)
	if !strings.Contains(problems, singleName) {
		t.Errorf("problems %q", problems)
	}
	if _, err := Verify(filepath.Join(dir, "none"), true, nil); err == nil {
		t.Error("no error for a folder that is not there")
	}
}

func TestVerifyValues(t *testing.T) {
	file := safetensorsFile(`{"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"zero":{"dtype":"F16","shape":[2,2],"data_offsets":[12,20]},`+
		`"ids":{"dtype":"I64","shape":[1],"data_offsets":[20,28]}}`, 28)
	data := file[len(file)-28:]
	clear(data[12:20])
	for i, pattern := range []uint16{0x7fc0, 0x7f80, 0xff80} {
		binary.LittleEndian.PutUint16(data[2*i:], pattern)
	}
	dir := put(t, singleName, string(file))
	r, problems := verifyText(t, dir, true)
	if want := filepath.Join(dir, singleName) + `: tensor "a": 1 NaN and 2 infinite of 6 values`; problems != want {
		t.Errorf("problems %q, want %q", problems, want)
	}
	notes := strings.Join(r.Notes, "\n")
	if !strings.Contains(notes, `"zero": all 4 values are zero`) || !strings.Contains(notes, `"ids" is I64: values not checked`) {
		t.Errorf("notes %q", notes)
	}
	if r, problems = verifyText(t, dir, false); problems != "" || len(r.Notes) > 0 {
		t.Errorf("without values: %+v", r)
	}
}

func TestVerifyChangingFile(t *testing.T) {
	dir := put(t, singleName, shardWith("a"))
	file := filepath.Join(dir, singleName)
	r, err := Verify(dir, true, func(int64, int64) {
		if err := os.Chtimes(file, time.Time{}, time.Unix(1e9, 0)); err != nil {
			t.Error(err)
		}
	})
	if err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], file+" changed while it was read") {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestVerifyHashes(t *testing.T) {
	weights, config := shardWith("a"), `{"x":1}`
	large := fmt.Sprintf("%x", sha256.Sum256([]byte(weights)))
	small := fmt.Sprintf("%x", sha1.Sum([]byte("blob 7\x00"+config)))
	repo := put(t, "blobs/"+large, weights, "blobs/"+small, config, "snapshots/c0ffee/README.md", "not a link")
	dir := filepath.Join(repo, "snapshots", "c0ffee")
	for name, blob := range map[string]string{singleName: large, "config.json": small} {
		if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(dir, name)); err != nil {
			t.Skip("no links here:", err)
		}
	}
	both := []string{filepath.Join(dir, "config.json"), filepath.Join(dir, singleName)}
	if r, problems := verifyText(t, dir, true); problems != "" || !slices.Equal(r.Hashed, both) {
		t.Errorf("got %+v", r)
	}
	for blob, content := range map[string]string{large: weights[:len(weights)-1] + "!", small: `{"x":2}`} {
		if err := os.WriteFile(filepath.Join(repo, "blobs", blob), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, problems := verifyText(t, dir, false)
	if len(r.Problems) != 2 || !strings.Contains(problems, "SHA-256 is") || !strings.Contains(problems, "git hash is") || !strings.Contains(problems, large) {
		t.Errorf("problems %q", problems)
	}
}
