package score

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A set is the rows of one data set or task, in order.
type set struct {
	name string
	rows []row
}

// A layout says which files of a benchmark hold what.
type layout struct {
	what  string                        // its sets are: data set, task, model
	field string                        // names the set in a row, for a file that holds several
	names []string                      // of the sets, in the order of the report; nil where any name will do
	find  func(stem string) string      // the name of the set a file is called after, perhaps
	parts func(stem, other string) bool // tells that both files hold parts of one set; nil where none do
}

// known tells whether there is such a set.
func (l layout) known(name string) bool { return l.names == nil || slices.Contains(l.names, name) }

// A folder is what has been read of one.
type folder struct {
	layout
	sets     []set
	from     []string           // the file that each set comes from
	ids      map[[2]string]bool // of set and row
	warnings []string
}

// read returns the sets in a folder, or in a file: of the set that its name says, or of several that its rows say.
// Rows that repeat an _id are left out but for the first.
func (l layout) read(path string) (folder, error) {
	f := folder{layout: l, ids: make(map[[2]string]bool)}
	info, err := os.Stat(path)
	if err != nil {
		return f, err
	}
	if !info.IsDir() {
		if err := f.file(path, true); err != nil {
			return f, err
		}
	} else {
		paths, err := jsonLines(path)
		if err != nil {
			return f, err
		}
		for _, p := range paths {
			if err := f.file(p, false); err != nil {
				return f, err
			}
		}
	}
	if len(f.sets) == 0 {
		return f, fmt.Errorf("%s: no file is called after a %s of this benchmark; they are %s", path, l.what, strings.Join(l.names, ", "))
	}
	slices.SortStableFunc(f.sets, func(a, b set) int { return slices.Index(l.names, a.name) - slices.Index(l.names, b.name) })
	return f, nil
}

// file reads one file. Where its name says nothing it is skipped, unless it is the only one.
func (f *folder) file(path string, only bool) error {
	base := filepath.Base(path)
	name := f.find(base)
	if !f.known(name) {
		if !only {
			f.warnings = append(f.warnings, fmt.Sprintf("%s: no %s of this benchmark; skipped", path, f.what))
			return nil
		}
		name = ""
	}
	rows, repeated := 0, 0
	err := readRows(path, func(r row) error {
		rows++
		name := name
		if name == "" {
			var err error
			if name, err = f.inRow(r); err != nil {
				return err
			}
		}
		if id, ok := r.fields["_id"]; ok {
			key := [2]string{name, string(id)}
			if f.ids[key] {
				repeated++
				return nil
			}
			f.ids[key] = true
		}
		return f.add(name, base, r)
	})
	if err == nil && rows == 0 {
		err = fmt.Errorf("%s: no rows", path)
	}
	if repeated > 0 {
		f.warnings = append(f.warnings, fmt.Sprintf("%s: %d rows repeat an _id; only the first row of each counts", path, repeated))
	}
	return err
}

// inRow is the set that a row says it belongs to.
func (f *folder) inRow(r row) (string, error) {
	var name string
	if err := r.must(&name, f.field); err != nil {
		return "", fmt.Errorf("%w, and the file is not called after a %s", err, f.what)
	}
	if !f.known(name) {
		return "", r.errorf("%s %q is none of %s", f.field, name, strings.Join(f.names, ", "))
	}
	return name, nil
}

// add puts a row of a file to its set.
func (f *folder) add(name, file string, r row) error {
	i := slices.IndexFunc(f.sets, func(s set) bool { return s.name == name })
	switch {
	case i < 0:
		i = len(f.sets)
		f.sets, f.from = append(f.sets, set{name: name}), append(f.from, file)
	case f.from[i] != file && (f.parts == nil || !f.parts(f.from[i], file)):
		return r.errorf("%s is in %s already: keep one of the two files", name, f.from[i])
	}
	f.sets[i].rows = append(f.sets[i].rows, r)
	return nil
}

// jsonLines lists the .jsonl files of a folder.
func jsonLines(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "jsonl") && !e.IsDir() {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no .jsonl files; pass the folder that holds them, as pred/MODEL", path)
	}
	return files, nil
}

// first returns what stands before the first dot, as the official scripts name a file's data set.
func first(base string) string {
	stem, _, _ := strings.Cut(base, ".")
	return stem
}
