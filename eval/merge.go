package eval

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Merge joins the shards below out, all n of them, into what one run would have written there, method by method, and
// returns the results. Shards that are not done, or of different runs, are errors; with force they are notes.
func Merge(ctx context.Context, out string, force bool) ([]Result, error) {
	shards, err := shardFolders(out)
	if err != nil {
		return nil, err
	}
	methods := map[string]int{}
	var names []string
	for _, s := range shards {
		folders, err := methodFolders(s)
		if err != nil {
			return nil, fmt.Errorf("merge: %w", err)
		}
		for _, f := range folders {
			name := filepath.Base(f)
			if methods[name]++; methods[name] == 1 {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("merge %s: the shards hold no results", out)
	}
	var results []Result
	for _, name := range names {
		if methods[name] != len(shards) {
			return results, fmt.Errorf("merge %s: %d of %d shards have %s; run the others", out, methods[name], len(shards), name)
		}
		r, err := mergeMethod(ctx, out, shards, name, force)
		if err != nil {
			return results, fmt.Errorf("merge %s of %s: %w", name, out, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// shardFolders returns the folders of all n shards, in order.
func shardFolders(out string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(out, "shard-0-of-*"))
	if err != nil {
		return nil, fmt.Errorf("merge %s: %w", out, err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("merge %s: want one shard-0-of-N in it, there are %d; pass the --out of the runs", out, len(found))
	}
	var n int
	if _, err := fmt.Sscanf(filepath.Base(found[0]), "shard-0-of-%d", &n); err != nil || n < 1 || n > maxShards {
		return nil, fmt.Errorf("merge: %s: no name of a shard", found[0])
	}
	var all []string
	for i := range n {
		folder := filepath.Join(out, Shard{i, n}.Folder())
		if _, err := os.Stat(folder); err != nil {
			return nil, fmt.Errorf("merge: shard %d of %d is missing: %w", i, n, err)
		}
		all = append(all, folder)
	}
	return all, nil
}

// mergeMethod joins one method's folders.
func mergeMethod(ctx context.Context, out string, shards []string, name string, force bool) (Result, error) {
	folder := filepath.Join(out, name)
	held, err := lock(folder)
	if err != nil {
		return Result{}, err
	}
	defer held.Close()
	var parts []string
	for _, s := range shards {
		part := filepath.Join(s, name)
		open, err := lock(part) // a shard that still runs is not done
		if err != nil {
			return Result{}, err
		}
		defer open.Close()
		parts = append(parts, part)
	}
	whole, err := joinResults(parts, force)
	if err != nil {
		return Result{}, err
	}
	m := whole.Manifest
	if old, err := readManifest(folder); err == nil && old.Shard == "" && !old.Merged && !force {
		return Result{}, fmt.Errorf("%s holds a run of its own; move it away, or --force to write over it", folder)
	}
	for _, task := range m.Tasks {
		if err := joinFiles(parts, folder, task.File); err != nil {
			return Result{}, err
		}
	}
	if err := joinTimes(parts, folder); err != nil {
		return Result{}, err
	}
	m.Shard, m.Merged = "", true
	if err := m.write(folder); err != nil {
		return Result{}, err
	}
	return Report(ctx, folder, whole.Name, whole.Counts)
}

// joinResults adds up the shards' counts, and checks that they are parts of one run and done.
func joinResults(parts []string, force bool) (whole Result, err error) {
	for i, part := range parts {
		r, err := readResult(part)
		if err != nil {
			return whole, err
		}
		if !r.Complete && !force {
			return whole, fmt.Errorf("%s is not done: run it again, or --force to merge what is there", part)
		}
		if i == 0 {
			whole = r
			continue
		}
		m := &whole.Manifest
		r.Manifest.Shard = m.Shard
		if diff := r.Manifest.differences(*m); len(diff) > 0 {
			if !force {
				return whole, fmt.Errorf("%s is of another run than %s: %s; --force merges them all the same", part, parts[0], strings.Join(diff, "; "))
			}
			m.Forced = append(m.Forced, diff...)
		}
		m.Forced = append(m.Forced, r.Manifest.Forced...)
		if whole.Counts, err = addCounts(whole.Counts, r.Counts); err != nil {
			return whole, fmt.Errorf("%s: %w", part, err)
		}
	}
	return whole, nil
}

func addCounts(sum, more []TaskCount) ([]TaskCount, error) {
	if len(sum) != len(more) {
		return nil, errors.New("it has other tasks than the first shard")
	}
	sum = slices.Clone(sum)
	for i, c := range more {
		s := &sum[i]
		if s.Task != c.Task {
			return nil, errors.New("it has other tasks than the first shard")
		}
		s.Items += c.Items
		s.Done += c.Done
		s.Failed += c.Failed
		if s.FirstError == "" {
			s.FirstError = c.FirstError
		}
	}
	return sum, nil
}

// joinFiles joins the predictions of one task. A shard answers its items in order, so that line k of shard i is that of
// item k·n+i.
func joinFiles(parts []string, folder, name string) error {
	lines := make([][][]byte, len(parts))
	for i, part := range parts {
		data, err := os.ReadFile(filepath.Join(part, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // a shard may have no item of a short task
		}
		if err != nil {
			return err
		}
		for line := range bytes.Lines(data) {
			if bytes.HasSuffix(line, []byte("\n")) { // the last one may be torn
				lines[i] = append(lines[i], line)
			}
		}
	}
	var all bytes.Buffer
	for k, more := 0, true; more; k++ {
		more = false
		for _, of := range lines {
			if k < len(of) {
				all.Write(of[k])
				more = true
			}
		}
	}
	if all.Len() == 0 {
		return nil
	}
	return writeFile(filepath.Join(folder, name), all.Bytes())
}

// joinTimes appends the shards' times to each other.
func joinTimes(parts []string, folder string) error {
	var all bytes.Buffer
	for _, part := range parts {
		f, err := os.Open(filepath.Join(part, timesName))
		if err != nil {
			return err
		}
		_, err = io.Copy(&all, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(folder, timesName), all.Bytes())
}
