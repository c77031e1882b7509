package loader

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Report is what Verify found.
type Report struct {
	Files    []string // the weight files that could be opened
	Tensors  int
	Bytes    int64    // of all tensors
	Hashed   []string // files whose content was compared with a hash, all of them equal but for those in Problems
	Problems []string // each one a reason not to use the model
	Notes    []string // odd, but usable
}

// Verify checks the model in dir: sizes, headers and the index as Open does, but all of them; the hashes that the
// Hugging Face cache has (a blob is named after the SHA-256 of its content, a small one after its git hash); and with
// values every weight for NaN and infinity. progress, unless nil, is called with the bytes done, one call at a time. The
// error is for a folder that cannot be read at all; what is wrong with the model is in the Report.
func Verify(dir string, values bool, progress func(done, total int64)) (Report, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify model %s: %w", dir, reason(err))
	}
	v := &verifier{progress: progress}
	v.group.SetLimit(runtime.GOMAXPROCS(0))
	c, errs := open(dir, false)
	for _, err := range errs {
		v.Problems = append(v.Problems, err.Error())
	}
	if c != nil {
		defer c.Close()
		v.Notes = append(v.Notes, c.warnings...)
		v.describe(c)
	}
	jobs := v.hashJobs(dir, entries)
	if values && c != nil {
		jobs = append(jobs, v.valueJobs(c)...)
	}
	for _, job := range jobs {
		v.group.Go(func() error { job(); return nil })
	}
	v.group.Wait()
	if c != nil {
		if err := c.Fault(); err != nil {
			v.Problems = append(v.Problems, err.Error())
		}
	}
	slices.Sort(v.Hashed)
	slices.Sort(v.Problems[len(errs):]) // in whatever order the workers came
	slices.Sort(v.Notes)
	return v.Report, nil
}

// verifier is a Report in the making; mu guards it once the jobs run.
type verifier struct {
	Report
	group       errgroup.Group
	mu          sync.Mutex
	progress    func(done, total int64)
	done, total int64
}

func (v *verifier) describe(c *Checkpoint) {
	for _, s := range c.shards {
		v.Files = append(v.Files, s.path)
	}
	v.Tensors = len(c.tensors)
	for _, t := range c.tensors {
		v.Bytes += t.Bytes
	}
}

func (v *verifier) problem(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

func (v *verifier) advance(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done += n
	if v.progress != nil {
		v.progress(v.done, v.total)
	}
}

var blobName = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// hashJobs lists the comparison of every file in dir that is a link to a blob of the Hugging Face cache.
func (v *verifier) hashJobs(dir string, entries []os.DirEntry) []func() {
	var jobs []func()
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		real, err := filepath.EvalSymlinks(path)
		if err != nil || filepath.Base(filepath.Dir(real)) != "blobs" || !blobName.MatchString(filepath.Base(real)) {
			continue // a broken link of a weight is an error of open
		}
		st, err := os.Stat(real)
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		v.total += st.Size()
		jobs = append(jobs, func() { v.hash(path, real, st.Size()) })
	}
	return jobs
}

// hash compares the content of a blob with its name.
func (v *verifier) hash(path, blob string, size int64) {
	f, err := os.Open(blob)
	if err != nil {
		v.problem("read %s: %v", path, reason(err))
		return
	}
	defer f.Close()
	want := filepath.Base(blob)
	h, kind := hash.Hash(sha256.New()), "SHA-256"
	if len(want) == 40 {
		h, kind = sha1.New(), "git hash"
		fmt.Fprintf(h, "blob %d\x00", size)
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		v.advance(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			v.problem("read %s: %v", path, reason(err))
			return
		}
	}
	v.mu.Lock()
	v.Hashed = append(v.Hashed, path)
	v.mu.Unlock()
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		v.problem("%s: %s is %s, the download said %s: download it again", path, kind, got, want)
	}
}

// valueJobs lists the scans of all weights, in stretches of 16 MiB.
func (v *verifier) valueJobs(c *Checkpoint) []func() {
	const stretch = 16 << 20
	var jobs []func()
	for _, t := range c.tensors {
		dt, ok := weightDType(t.DType)
		if !ok {
			v.Notes = append(v.Notes, fmt.Sprintf("%s: tensor %q is %s: values not checked", t.File, short(t.Name), t.DType))
			continue
		}
		v.total += t.Bytes
		var sum valueCount
		parts := (len(t.data) + stretch - 1) / stretch
		for i := range parts {
			data := t.data[i*stretch : min((i+1)*stretch, len(t.data))]
			jobs = append(jobs, func() {
				part := countValues(dt, data)
				v.advance(int64(len(data)))
				v.mu.Lock()
				sum.nan += part.nan
				sum.inf += part.inf
				sum.nonzero = sum.nonzero || part.nonzero
				parts--
				last := parts == 0
				v.mu.Unlock()
				if last {
					v.judge(t, sum, t.Bytes/int64(dt.Size()))
				}
			})
		}
	}
	return jobs
}

// judge enters what the scan of t says about it.
func (v *verifier) judge(t *tensor, sum valueCount, n int64) {
	if sum.nan+sum.inf > 0 {
		v.problem("%s: tensor %q: %d NaN and %d infinite of %d values", t.File, short(t.Name), sum.nan, sum.inf, n)
	}
	if !sum.nonzero && len(t.Dims) > 1 {
		v.mu.Lock()
		v.Notes = append(v.Notes, fmt.Sprintf("%s: tensor %q: all %d values are zero", t.File, short(t.Name), n))
		v.mu.Unlock()
	}
}
