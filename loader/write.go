package loader

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nlpodyssey/safetensors"
)

// Out describes one tensor of a file to be written.
type Out struct {
	Name  string
	DType string // name of the safetensors format, such as "F32" or "I64"
	Dims  []int
}

// Writer writes a safetensors file whose tensors arrive one after the other, in pieces. The file appears under its name
// only when all of it is there.
type Writer struct {
	path string
	tmp  *os.File
	buf  *bufio.Writer
	left int64 // bytes that Write still expects
}

// OutFile is the file that writing to path replaces: path itself, or what it links to. Anything but a regular file is an
// error: a device, a pipe or a link would be replaced by a file of its name.
func OutFile(path string) (string, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err == nil && st.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			st, err = os.Stat(path)
		}
	}
	switch {
	case err != nil:
		return "", err
	case st.IsDir():
		return "", fmt.Errorf("%s: a folder; name a file", path)
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("%s: a device, pipe or socket; name a file", path)
	}
	return path, nil
}

// Create starts a safetensors file of the given tensors. Their bytes then go to Write in this order, little-endian. What the
// file takes the place of is that of OutFile.
func Create(path string, tensors []Out) (*Writer, error) {
	path, err := OutFile(path)
	if err != nil {
		return nil, fmt.Errorf("create file: %w", err)
	}
	type entry struct {
		DType   string   `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	header, end := map[string]entry{}, int64(0)
	for _, t := range tensors {
		dt, err := safetensors.ParseDType(t.DType)
		if err != nil {
			return nil, fmt.Errorf("create %s: tensor %q: %w", path, t.Name, err)
		}
		n := int64(dt.Size())
		for _, d := range t.Dims {
			n *= int64(d)
		}
		header[t.Name] = entry{t.DType, t.Dims, [2]int64{end, end + n}}
		end += n
	}
	text, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".incomplete-*")
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	w := &Writer{path: path, tmp: tmp, buf: bufio.NewWriterSize(tmp, 1<<20), left: int64(8+len(text)) + end}
	if _, err = w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text)))); err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		w.Abort()
		return nil, err
	}
	return w, nil
}

// Write appends data.
func (w *Writer) Write(data []byte) (int, error) {
	if int64(len(data)) > w.left {
		return 0, fmt.Errorf("write %s: %d bytes more than its tensors hold", w.path, int64(len(data))-w.left)
	}
	n, err := w.buf.Write(data)
	w.left -= int64(n)
	if err != nil {
		return n, fmt.Errorf("write %s: %w", w.path, err)
	}
	return n, nil
}

// Close gives the file its name, or removes it and says why it is not whole.
func (w *Writer) Close() error {
	if w.left != 0 {
		w.Abort()
		return fmt.Errorf("write %s: %d bytes of its tensors were never written", w.path, w.left)
	}
	err := errors.Join(w.buf.Flush(), w.tmp.Chmod(0o644), w.tmp.Sync(), w.tmp.Close())
	if err == nil {
		err = os.Rename(w.tmp.Name(), w.path)
	}
	if err != nil {
		w.Abort()
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return nil
}

// Abort removes what was written. After Close it does nothing.
func (w *Writer) Abort() {
	_ = w.tmp.Close()
	_ = os.Remove(w.tmp.Name())
}
