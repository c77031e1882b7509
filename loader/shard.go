package loader

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"github.com/nlpodyssey/safetensors"
)

// shard is one mapped file, or the anonymous memory of a dummy checkpoint, which has no file.
type shard struct {
	path  string
	file  *os.File // kept open to see whether it changes
	stat  os.FileInfo
	data  []byte // the whole file
	guard guard
}

// openShard maps the safetensors file real, which the user knows as path, and lists its tensors by offset.
func openShard(path, real string) (*shard, []*tensor, error) {
	s, err := mapShard(path, real)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	tensors, err := s.parse()
	if fault := s.fault(); fault != nil {
		err = fault
	} else if err != nil {
		err = fmt.Errorf("open %s: %w", path, err)
	}
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, tensors, nil
}

func mapShard(path, real string) (*shard, error) {
	st, err := os.Stat(real)
	if err != nil {
		return nil, reason(err)
	}
	if !st.Mode().IsRegular() { // opening a pipe would block
		return nil, fmt.Errorf("not a regular file")
	}
	f, err := os.Open(real)
	if err != nil {
		return nil, reason(err)
	}
	s := &shard{path: path, file: f}
	if s.stat, err = f.Stat(); err != nil {
		f.Close()
		return nil, reason(err)
	}
	if s.stat.Size() < 8 { // nothing to map
		f.Close()
		return nil, checkHeader(make([]byte, s.stat.Size()))
	}
	if s.data, err = mapFile(f, int(s.stat.Size())); err != nil {
		f.Close()
		return nil, fmt.Errorf("map into memory: %w", err)
	}
	s.guard = newGuard(s.data)
	return s, nil
}

// parse reads the header of s.
func (s *shard) parse() ([]*tensor, error) {
	if err := checkHeader(s.data); err != nil {
		return nil, err
	}
	parsed, err := safetensors.Deserialize(s.data)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	views := parsed.Tensors()
	tensors := make([]*tensor, len(views))
	for i, v := range views {
		t := &tensor{data: v.TensorView.Data()}
		t.Info = Info{Name: v.Name, File: s.path, DType: v.TensorView.DType().String(), Bytes: int64(len(t.data))}
		t.Offset = int64(cap(s.data) - cap(t.data)) // both end with the mapping
		for _, d := range v.TensorView.Shape() {
			t.Dims = append(t.Dims, int(d)) // checkHeader has seen that it fits
		}
		tensors[i] = t
	}
	slices.SortFunc(tensors, func(a, b *tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return tensors, nil
}

// fault reports whether the file has changed since it was mapped.
func (s *shard) fault() error {
	if s.file == nil {
		return nil
	}
	if at, ok := s.guard.fault(); ok {
		return fmt.Errorf("%s changed while it was read (page at offset %d gone); run pbs-run verify", s.path, at)
	}
	if err := statSame(s.file, s.stat); err != nil {
		return fmt.Errorf("%s changed while it was read (%w); run pbs-run verify", s.path, err)
	}
	return nil
}

func (s *shard) close() error {
	s.guard.release()
	err := unmap(s.data)
	if s.file != nil {
		s.file.Close()
	}
	if err != nil {
		return fmt.Errorf("unmap %s: %w", s.path, err)
	}
	return nil
}
