// Package benchmark makes the samples of LongBench, LongBench-v2, InfiniteBench and RULER from the files that their
// authors published, with the prompts that the official scripts would build.
package benchmark

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"

	"github.com/pbs-run/pbs-run/eval/dataset"
)

// A Source says where rows come from and what becomes of bad ones.
type Source struct {
	Data    string // folder or file that the user downloaded
	SkipBad bool   // leave out rows that cannot be used, instead of an error
}

// A parser makes something of one row's JSON. It returns the row's ID, and what is to be done to keep the row.
type parser func(row []byte) (id string, keep func(), err error)

// rows reads a data set row by row. An ID may not come twice.
func (s Source) rows(name string, parse parser) (skipped []string, err error) {
	files, err := dataset.Find(s.Data, name)
	if err != nil {
		return nil, err
	}
	lines := map[string]int{}
	for _, file := range files {
		for row, err := range file.Rows() {
			if err != nil {
				return nil, err // what follows cannot be read
			}
			bad := row.Err
			if bad == nil {
				bad = use(file, row, lines, parse)
			}
			switch {
			case bad == nil:
			case s.SkipBad:
				skipped = append(skipped, bad.Error())
			default:
				return nil, fmt.Errorf("%w; --skip-bad leaves such rows out", bad)
			}
		}
	}
	return skipped, nil
}

func use(file dataset.Source, row dataset.Row, lines map[string]int, parse parser) error {
	id, keep, err := parse(row.JSON)
	if err != nil {
		return fmt.Errorf("%s line %d: %w", file, row.Line, err)
	}
	if first, twice := lines[id]; twice {
		return fmt.Errorf("%s line %d: %q is the ID of line %d too", file, row.Line, id, first)
	}
	lines[id] = row.Line
	keep()
	return nil
}

// decode reads a row into a struct whose fields are pointers, slices or raw JSON. The fields named must be there.
func decode(row []byte, into any, required ...string) error {
	if err := json.Unmarshal(row, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("field %s: want %s, not a JSON %s", wrong.Field, wrong.Type, wrong.Value)
		}
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(row, &members); err != nil {
		return err
	}
	for _, name := range required {
		if value, ok := members[name]; !ok || string(value) == "null" {
			return fmt.Errorf("field %s: missing", name)
		}
	}
	return nil
}

// digest adds up what the prompts of a task are made from.
type digest struct{ hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

// add takes texts, each with its length, so that no two lists are alike.
func (d digest) add(texts ...string) {
	for _, t := range texts {
		fmt.Fprintf(d, "%d:", len(t)) // a hash takes everything
		d.Write([]byte(t))
	}
}

func (d digest) String() string { return hex.EncodeToString(d.Sum(nil)) }

// Digest is the SHA-256 of a list of texts.
func Digest(texts ...string) string {
	d := newDigest()
	d.add(texts...)
	return d.String()
}

// maxConfigBytes bounds files of prompts.
const maxConfigBytes = 8 << 20

// findFile returns the first of the places below dir that has a file, and reads it. dir may be the file itself.
func findFile(dir, what, where string, places ...string) (path string, data []byte, err error) {
	if dir == "" {
		return "", nil, fmt.Errorf("%s: pass --config DIR, a checkout of %s", what, where)
	}
	candidates := []string{}
	if info, err := os.Stat(dir); err != nil {
		return "", nil, fmt.Errorf("%s: --config: %w; get it from %s", what, err, where)
	} else if !info.IsDir() {
		candidates = append(candidates, dir)
	}
	for _, p := range places {
		candidates = append(candidates, filepath.Join(dir, p))
	}
	for _, path := range candidates {
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			continue
		}
		if info.Size() > maxConfigBytes {
			return "", nil, fmt.Errorf("%s %s: %d bytes, at most %d", what, path, info.Size(), maxConfigBytes)
		}
		data, err := os.ReadFile(path)
		return path, data, err
	}
	return "", nil, fmt.Errorf("%s: none of %s in %s: pass --config DIR, a checkout of %s", what, strings.Join(places, ", "), dir, where)
}

// below returns name in each of the folders.
func below(name string, folders ...string) []string {
	paths := make([]string, len(folders))
	for i, f := range folders {
		paths[i] = filepath.Join(f, name)
	}
	return paths
}
