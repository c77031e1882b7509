package loader

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
	maxIndex   = 100_000_000 // bytes; the largest published ones have some ten million
)

// shardList is which files hold the weights of a folder.
type shardList struct {
	files     []string          // plain names, sorted
	weightMap map[string]string // tensor to file; nil without an index
	total     string            // metadata.total_size as it stands in the index, "" for none
	warnings  []string
}

// listShards finds the weights in dir. Where there is a single file and an index, the single file counts, as in
// Hugging Face transformers.
func listShards(dir string) (shardList, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return shardList{}, fmt.Errorf("open model %s: %w", dir, reason(err))
	}
	var single, index bool
	for _, e := range entries {
		single = single || e.Name() == singleName
		index = index || e.Name() == indexName
	}
	switch {
	case single:
		list := shardList{files: []string{singleName}}
		if index {
			list.warnings = append(list.warnings, fmt.Sprintf("%s: both %s and %s are there; the index is ignored", dir, singleName, indexName))
		}
		return list, nil
	case index:
		path := filepath.Join(dir, indexName)
		data, err := readFile(path, maxIndex)
		if err != nil {
			return shardList{}, err
		}
		list, err := parseIndex(data)
		if err != nil {
			return list, fmt.Errorf("read %s: %w", path, err)
		}
		return list, nil
	}
	return shardList{}, noWeights(dir, entries)
}

// noWeights is the error for a folder without safetensors weights; it says what is there instead.
func noWeights(dir string, entries []fs.DirEntry) error {
	var foreign, stray []string
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".bin", ".pt", ".pth", ".gguf", ".ckpt", ".h5", ".msgpack":
			foreign = append(foreign, e.Name())
		case ".safetensors":
			stray = append(stray, e.Name())
		}
	}
	text := fmt.Sprintf("open model %s: no %s and no %s", dir, singleName, indexName)
	if len(stray) > 0 {
		text += ", but " + quoteAll(stray) + ": rename or index them"
	} else if len(foreign) > 0 {
		text += ", but " + quoteAll(foreign) + ": safetensors only; convert with transformers' save_pretrained"
	}
	return errors.New(text)
}

// parseIndex checks the text of an index and lists its shards. A shard must be a plain file name: an index that comes with
// a download must not choose files elsewhere.
func parseIndex(data []byte) (shardList, error) {
	if err := checkJSON(data); err != nil {
		return shardList{}, err
	}
	// A map, because struct fields would also match keys in another case.
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		return shardList{}, errors.New("not a JSON object")
	}
	var list shardList
	if err := json.Unmarshal(top["weight_map"], &list.weightMap); err != nil || len(list.weightMap) == 0 {
		return shardList{}, errors.New("weight_map must be an object that maps tensor names to file names")
	}
	var meta map[string]json.RawMessage
	if json.Unmarshal(top["metadata"], &meta) == nil {
		list.total = string(bytes.TrimSpace(meta["total_size"]))
	}
	files := map[string]bool{}
	for tensor, file := range list.weightMap {
		if files[file] {
			continue
		}
		if err := checkShardName(file); err != nil {
			return shardList{}, fmt.Errorf("weight_map[%q]: %w", short(tensor), err)
		}
		files[file] = true
	}
	list.files = slices.Sorted(maps.Keys(files))
	return list, nil
}

func checkShardName(name string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "/\\\x00:") || strings.HasPrefix(name, ".") || !filepath.IsLocal(name):
		return fmt.Errorf("%q is not a plain file name in the model's folder", short(name))
	case !strings.HasSuffix(name, ".safetensors"):
		return fmt.Errorf("%q: safetensors only; convert with transformers' save_pretrained", short(name))
	}
	return nil
}

// resolve returns the path of name in dir and the file that it stands for. A link may lead to a file in the same folder
// or, from a snapshot of the Hugging Face cache, into that repository's blobs; elsewhere it is refused, unopened.
func resolve(dir, name string) (path, real string, err error) {
	path = filepath.Join(dir, name)
	real, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(path); lerr == nil {
			return "", "", fmt.Errorf("open %s: its link leads nowhere: the download is incomplete", path)
		}
		return "", "", fmt.Errorf("open %s: no such file, though %s names it", path, filepath.Join(dir, indexName))
	}
	if err != nil {
		return "", "", fmt.Errorf("open %s: %w", path, reason(err))
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", "", fmt.Errorf("open %s: %w", path, reason(err))
	}
	folder := filepath.Dir(real)
	snapshots := filepath.Dir(realDir)
	blobs := filepath.Join(filepath.Dir(snapshots), "blobs")
	if folder != realDir && !(filepath.Base(snapshots) == "snapshots" && folder == blobs) {
		return "", "", fmt.Errorf("open %s: a link out of the model's folder, to %s", path, real)
	}
	return path, real, nil
}

// checkIndex compares the index with the shards.
func (c *Checkpoint) checkIndex(list shardList) []error {
	index := filepath.Join(c.dir, indexName)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(list.weightMap)) {
		file := filepath.Join(c.dir, list.weightMap[name])
		t, ok := c.byName[name]
		if !ok || t.File != file {
			errs = append(errs, fmt.Errorf("open %s: no tensor %q, though %s says so", file, short(name), index))
		}
	}
	var total int64
	for _, t := range c.tensors {
		total += t.Bytes
		if _, ok := list.weightMap[t.Name]; !ok {
			errs = append(errs, fmt.Errorf("open %s: tensor %q is not in %s", t.File, short(t.Name), index))
		}
	}
	if list.total != "" && list.total != fmt.Sprint(total) {
		c.warnings = append(c.warnings, fmt.Sprintf("%s: metadata.total_size is %q, the tensors have %d bytes", index, short(list.total), total))
	}
	return errs
}
