// Package loader turns a Hugging Face model folder into named tensors that lie in memory-mapped safetensors files. Nothing
// is copied: a tensor is a view of the page cache. Files are not trusted: what the format leaves open to abuse is checked
// before anything is parsed, and a file that shrinks under its mapping is an error, not a crash.
package loader

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pbs-run/pbs-run/kernels"
)

// weightDTypes are the element types that a weight may have.
var weightDTypes = []string{"F32", "BF16", "F16"}

// Info describes one tensor of a checkpoint.
type Info struct {
	Name   string
	File   string // path of the file that holds it
	DType  string // name of the safetensors format, such as "BF16"
	Dims   []int  // outermost first; a scalar has none
	Offset int64  // of its first byte in File
	Bytes  int64
}

// Checkpoint is the weights of one model. All methods but Close may be called from several goroutines at once.
type Checkpoint struct {
	dir      string
	shards   []*shard
	tensors  []*tensor // in the order of the files, by offset
	byName   map[string]*tensor
	warnings []string
}

type tensor struct {
	Info
	data   []byte
	recipe *kernels.Recipe // in the place of data, in an outline
	read   atomic.Bool     // somebody asked for it
}

// Open maps the weights in dir: model.safetensors, or the shards that model.safetensors.index.json names. It reads headers
// only. The files must not change until Close; see Fault. Errors name the file, and the tensor where there is one.
func Open(dir string) (*Checkpoint, error) {
	c, errs := open(dir, true)
	if len(errs) > 0 {
		if c != nil {
			c.Close()
		}
		return nil, errs[0]
	}
	return c, nil
}

// open is Open that, where first is false, goes on after an error to find the others.
func open(dir string, first bool) (*Checkpoint, []error) {
	list, err := listShards(dir)
	if err != nil {
		return nil, []error{err}
	}
	c := &Checkpoint{dir: dir, byName: map[string]*tensor{}, warnings: list.warnings}
	var errs []error
	for _, name := range list.files {
		if err := c.addShard(name); err != nil {
			errs = append(errs, err)
			if first {
				return c, errs
			}
		}
	}
	if len(errs) == 0 && list.weightMap != nil {
		errs = c.checkIndex(list)
	}
	return c, errs
}

// addShard maps the file called name in the checkpoint's folder and enters its tensors.
func (c *Checkpoint) addShard(name string) error {
	path, real, err := resolve(c.dir, name)
	if err != nil {
		return err
	}
	s, tensors, err := openShard(path, real)
	if err != nil {
		return err
	}
	c.shards = append(c.shards, s)
	for _, t := range tensors {
		if other, ok := c.byName[t.Name]; ok {
			return fmt.Errorf("open %s: tensor %q is also in %s", t.File, short(t.Name), other.File)
		}
		c.byName[t.Name] = t
		c.tensors = append(c.tensors, t)
	}
	return nil
}

// Tensor returns the named tensor where it lies, F32, BF16 or F16, of the given dims (one to three, outermost first). It is
// valid until Close; one of an outline has no Data. The error for a missing tensor says where it was looked for and which name is near.
func (c *Checkpoint) Tensor(name string, dims ...int) (kernels.Tensor, error) {
	t, ok := c.byName[name]
	if !ok {
		return kernels.Tensor{}, c.missing(name)
	}
	t.read.Store(true)
	if !slices.Equal(t.Dims, dims) {
		return kernels.Tensor{}, fmt.Errorf("load %s: tensor %q has shape %v, the config asks for %v", t.File, name, t.Dims, dims)
	}
	dt, ok := weightDType(t.DType)
	if !ok {
		return kernels.Tensor{}, fmt.Errorf("load %s: tensor %q is %s; weights must be %s", t.File, name, t.DType, strings.Join(weightDTypes, ", "))
	}
	if t.recipe != nil {
		return kernels.Outline(dt, dims...), nil
	}
	return kernels.NewTensor(dt, t.data, dims...), nil
}

func weightDType(name string) (kernels.DType, bool) {
	for _, dt := range []kernels.DType{kernels.F32, kernels.BF16, kernels.F16} {
		if dt.String() == name {
			return dt, true
		}
	}
	return 0, false
}

func (c *Checkpoint) missing(name string) error {
	where := c.dir
	if len(c.shards) == 1 {
		where = c.shards[0].path
	}
	hint := ""
	if near := nearest(name, c.tensors); near != "" {
		hint = fmt.Sprintf(" (there is %q)", near)
	}
	return fmt.Errorf("load %s: no tensor %q among its %d%s", where, short(name), len(c.tensors), hint)
}

// Has reports whether there is a tensor of that name.
func (c *Checkpoint) Has(name string) bool {
	_, ok := c.byName[name]
	return ok
}

// Tensors describes all tensors in the order of the files.
func (c *Checkpoint) Tensors() []Info {
	list := make([]Info, len(c.tensors))
	for i, t := range c.tensors {
		list[i] = t.Info
	}
	return list
}

// Unread lists the tensors that nobody has asked for with Tensor, in the order of the files.
func (c *Checkpoint) Unread() []string {
	var names []string
	for _, t := range c.tensors {
		if !t.read.Load() {
			names = append(names, t.Name)
		}
	}
	return names
}

// Bytes is the size of all tensors by dtype.
func (c *Checkpoint) Bytes() map[string]int64 {
	total := map[string]int64{}
	for _, t := range c.tensors {
		total[t.DType] += t.Bytes
	}
	return total
}

// Warnings lists what looked wrong in the folder but does not keep its weights from being used.
func (c *Checkpoint) Warnings() []string { return c.warnings }

// Fault reports whether a file has changed since Open. What was read from it may then be wrong: pages that are gone read
// as zeros, in Go and in C alike, so whoever computes with the weights must ask before trusting a result. It costs a
// system call for each file.
func (c *Checkpoint) Fault() error {
	for _, s := range c.shards {
		if err := s.fault(); err != nil {
			return err
		}
	}
	return nil
}

// Close unmaps the files. Tensors taken from the checkpoint must not be read any more.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, s := range c.shards {
		errs = append(errs, s.close())
	}
	c.shards = nil
	return errors.Join(errs...)
}

// nearest returns the tensor whose name takes the fewest edits to become name, or "" where none is near.
func nearest(name string, tensors []*tensor) string {
	const longest = 256 // of a name worth comparing; bounds the work on a hostile file
	best, found := 1+len(name)/4, ""
	if len(name) > longest {
		return ""
	}
	for _, t := range tensors {
		if len(t.Name) > longest || len(t.Name) > len(name)+best || len(name) > len(t.Name)+best {
			continue
		}
		if d := edits(name, t.Name); d < best {
			best, found = d, t.Name
		}
	}
	return found
}

// edits is the Levenshtein distance of two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := min(row[j], row[j+1]) + 1
			if a[i] == b[j] {
				d = min(d, diag)
			} else {
				d = min(d, diag+1)
			}
			diag, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
