// Package dataset reads the rows of a benchmark from what its user downloaded: JSON Lines as published, a zip archive
// of them, one JSON array, or Parquet. Rows come as JSON objects with the line they stand on.
package dataset

import (
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Limits of what a file may hold, far above what is published: the longest row of LongBench-v2 has about 16 MB.
const (
	maxRowBytes  = 32 << 20
	maxFileBytes = 8 << 30 // of one file, unpacked
)

// A Row is one JSON object of a data set, or the reason why there is none.
type Row struct {
	Line int    // from 1; in Parquet the row's number
	JSON []byte // valid until the next row
	Err  error  // names file and line; the rows after it can still be read
}

// A Source is a file with the rows of one data set.
type Source struct {
	path   string
	member string // of a zip archive
}

// String names the file.
func (s Source) String() string {
	if s.member != "" {
		return s.path + ":" + s.member
	}
	return s.path
}

// Find looks for the data set called name in a folder that a user downloaded. In this order: name.jsonl and name.json,
// name.parquet and Hugging Face's name/**/*.parquet, each also below data/; then name.jsonl or name.json in a zip
// archive of the folder. dir may also be one such file, which then holds the data set, or an archive.
func Find(dir, name string) ([]Source, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("find data set %s: %w", name, err)
	}
	if !info.IsDir() {
		if filepath.Ext(dir) == ".zip" {
			return findInZip([]string{dir}, dir, name)
		}
		return []Source{{path: dir}}, nil
	}
	for _, folder := range []string{dir, filepath.Join(dir, "data")} {
		for _, pattern := range []string{
			name + ".jsonl", name + ".json", name + ".parquet", name + "-*.parquet",
			filepath.Join(name, "*.parquet"), filepath.Join(name, "*", "*.parquet"),
		} {
			found, err := filepath.Glob(filepath.Join(escapeGlob(folder), pattern))
			if err != nil {
				return nil, fmt.Errorf("find data set %s in %s: %w", name, dir, err)
			}
			if len(found) > 0 {
				return sources(found), nil
			}
		}
	}
	zips, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.zip"))
	if err != nil {
		return nil, fmt.Errorf("find data set %s in %s: %w", name, dir, err)
	}
	return findInZip(zips, dir, name)
}

func sources(paths []string) []Source {
	slices.Sort(paths)
	all := make([]Source, len(paths))
	for i, p := range paths {
		all[i].path = p
	}
	return all
}

// escapeGlob has a folder's own name match itself alone.
func escapeGlob(folder string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(folder)
}

func findInZip(archives []string, dir, name string) ([]Source, error) {
	for _, archive := range archives {
		z, err := zip.OpenReader(archive)
		if err != nil {
			return nil, fmt.Errorf("find data set %s: open %s: %w", name, archive, err)
		}
		defer z.Close()
		for _, f := range z.File {
			base := path.Base(f.Name)
			if (base == name+".jsonl" || base == name+".json") && !strings.HasPrefix(f.Name, "__MACOSX/") {
				return []Source{{archive, f.Name}}, nil
			}
		}
	}
	return nil, fmt.Errorf("find data set %s in %s: %w: looked for %s.jsonl, .json, .parquet, %s/*.parquet, the same below data/, and inside *.zip",
		name, dir, os.ErrNotExist, name, name)
}

// Rows yields the rows of the source in order. A row with Err set is unusable; an error beside it ends the file.
func (s Source) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if err := s.read(func(r Row) bool { return yield(r, nil) }); err != nil && !errors.Is(err, errStop) {
			yield(Row{}, fmt.Errorf("read %s: %w", s, err))
		}
	}
}

// errStop says that the consumer of the rows wants no more.
var errStop = errors.New("stop")

func (s Source) read(yield func(Row) bool) error {
	if filepath.Ext(s.path) == ".parquet" {
		return readParquet(s.path, yield)
	}
	r, err := s.open()
	if err != nil {
		return err
	}
	defer r.Close()
	limited := &limitReader{r: r, left: maxFileBytes}
	br := bufio.NewReaderSize(limited, 1<<20)
	first, err := firstByte(br)
	if err != nil {
		return err
	}
	if first == '[' {
		return s.readArray(br, yield)
	}
	return s.readLines(br, yield)
}

func (s Source) open() (io.ReadCloser, error) {
	if s.member == "" {
		return os.Open(s.path)
	}
	z, err := zip.OpenReader(s.path)
	if err != nil {
		return nil, err
	}
	r, err := z.Open(s.member)
	if err != nil {
		z.Close()
		return nil, err
	}
	return member{r, z}, nil
}

// member is an open file of an archive.
type member struct {
	io.ReadCloser
	archive io.Closer
}

func (m member) Close() error { return errors.Join(m.ReadCloser.Close(), m.archive.Close()) }

// limitReader fails, where io.LimitReader would end, when there is more than it lets through.
type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("more than %d bytes unpacked", int64(maxFileBytes))
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// firstByte returns the first byte that is no white space, without taking it; 0 of an empty file.
func firstByte(r *bufio.Reader) (byte, error) {
	for n := 1; ; n++ {
		head, err := r.Peek(n)
		if len(head) < n {
			if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
				return 0, nil
			}
			return 0, err
		}
		if !strings.ContainsRune(" \t\r\n", rune(head[n-1])) {
			return head[n-1], nil
		}
	}
}
