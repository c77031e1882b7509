package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// predictions is the file of one task, which grows by a whole line per sample. After a kill or a power cut at most its
// last line is torn.
type predictions struct {
	file     *os.File
	size     int64 // of the whole lines
	done     map[string]bool
	failed   map[string]string // why samples failed
	repeated int               // lines whose sample an earlier line has
	foreign  int               // lines of samples that the task does not have
}

// openPredictions opens the file of a task and reads what is done. A last line without an end is cut off: its sample
// runs again. Any other line that cannot be read is an error, since nobody but a user can have written it.
func openPredictions(path string, task Task) (*predictions, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of predictions: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open predictions: %w", err)
	}
	p := &predictions{file: f, done: map[string]bool{}, failed: map[string]string{}}
	if err = p.read(task); err == nil {
		err = p.cut()
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path)) // so that the file itself outlives a power cut
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open predictions %s: %w", path, err)
	}
	return p, nil
}

// read notes which samples the whole lines are of.
func (p *predictions) read(task Task) error {
	known := make(map[string]bool, len(task.IDs))
	for _, id := range task.IDs {
		known[id] = true
	}
	r := bufio.NewReaderSize(p.file, 1<<20)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what is left, if anything, is torn
		}
		if err != nil {
			return err
		}
		id, err := task.LineID(line)
		if err != nil {
			if _, end := r.Peek(1); errors.Is(end, io.EOF) {
				return nil // a power cut can leave the length without the bytes
			}
			return fmt.Errorf("line %d: %w; mend or remove the file", n, err)
		}
		switch {
		case !known[id]:
			p.foreign++
		case p.done[id]:
			p.repeated++
		default:
			if why := failureOf(line); why != "" {
				p.failed[id] = why
			}
		}
		p.done[id] = true
		p.size += int64(len(line))
	}
}

// cut ends the file behind its last whole line.
func (p *predictions) cut() error {
	if err := p.file.Truncate(p.size); err != nil {
		return err
	}
	_, err := p.file.Seek(p.size, io.SeekStart)
	return err
}

// append writes one line and waits until it is on the disk. If that fails the file is cut back to whole lines.
func (p *predictions) append(id string, line any) error {
	b, err := encodeLine(line)
	if err != nil {
		return fmt.Errorf("encode prediction %s: %w", id, err)
	}
	n, err := p.file.Write(b)
	if err == nil {
		err = p.file.Sync()
	}
	if err != nil {
		if n > 0 {
			err = errors.Join(err, p.cut())
		}
		return fmt.Errorf("write prediction %s to %s: %w; what stands there is whole: run the command again to go on", id, p.file.Name(), err)
	}
	p.size += int64(n)
	p.done[id] = true
	return nil
}

// encodeLine is v as one line of JSON. Text stays as it is: neither HTML nor other characters are escaped.
func encodeLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// close closes the file, and removes it if nothing was written: no scorer takes an empty one.
func (p *predictions) close() error {
	err := p.file.Close()
	if p.size == 0 {
		err = errors.Join(err, os.Remove(p.file.Name()))
	}
	return err
}

// failureOf is the error of a line, which a sample that failed has.
func failureOf(line []byte) string {
	var l struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(line, &l) != nil {
		return ""
	}
	return l.Error
}

// LineID is the LineID of files whose lines have an _id.
func LineID(line []byte) (string, error) {
	var l struct {
		ID *string `json:"_id"`
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return "", err
	}
	if l.ID == nil {
		return "", errors.New("no _id")
	}
	return *l.ID, nil
}

// LineIndex is the LineID of files whose lines have an index, a number.
func LineIndex(line []byte) (string, error) {
	var l struct {
		Index *json.Number `json:"index"`
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return "", err
	}
	if l.Index == nil {
		return "", errors.New("no index")
	}
	return l.Index.String(), nil
}

// syncFolder makes new names in a folder last.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// removeUnfinished removes what kills have left of writeFile in a folder that this process has locked.
func removeUnfinished(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("read output folder: %w", err)
	}
	for _, e := range entries {
		for _, name := range []string{manifestName, resultsName} {
			if strings.HasPrefix(e.Name(), "."+name+".") {
				err = errors.Join(err, os.Remove(filepath.Join(folder, e.Name())))
			}
		}
	}
	return err
}

// writeFile replaces a file as a whole, or leaves it as it was.
func writeFile(path string, data []byte) error {
	return replaceFile(path, func(to io.Writer) error {
		_, err := to.Write(data)
		return err
	})
}

// replaceFile is writeFile for what write makes.
func replaceFile(path string, write func(to io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err = write(f); err == nil {
		err = errors.Join(f.Chmod(0o644), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return syncFolder(filepath.Dir(path))
}
