package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	"golang.org/x/sync/errgroup"
)

// codeVersion names this program's code: the commit it was built from, or, where that is not all of it, the hash of the
// program itself.
func codeVersion() (string, error) {
	revision, modified := "", false
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
	}
	if revision != "" && !modified {
		return revision, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	sum, err := fileSHA256(path)
	if revision != "" {
		return revision + "+changes, program sha256:" + sum, err
	}
	return "program sha256:" + sum, err
}

// modelSHA256 is the hash of what is in a model's folder: of the names and SHA-256 of its weights, configuration and
// tokenizer. Hugging Face's cache names large files by their hash, which is taken from there.
func modelSHA256(dir string) (string, error) {
	var paths []string
	for _, pattern := range []string{"*.safetensors", "*.json", "*.jinja"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return "", fmt.Errorf("hash model %s: %w", dir, err)
		}
		paths = append(paths, found...)
	}
	slices.Sort(paths)
	sums := make([]string, len(paths))
	g := errgroup.Group{}
	g.SetLimit(4)
	for i, p := range paths {
		g.Go(func() (err error) {
			sums[i], err = blobSHA256(p)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", fmt.Errorf("hash model: %w", err)
	}
	all := sha256.New()
	for i, p := range paths {
		fmt.Fprintf(all, "%s %s\n", sums[i], filepath.Base(p)) // a hash takes everything
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

// blobSHA256 is the hash of a file, or of the blob in the Hugging Face cache that it links to.
func blobSHA256(path string) (string, error) {
	if target, err := os.Readlink(path); err == nil {
		if sum, err := hex.DecodeString(filepath.Base(target)); err == nil && len(sum) == sha256.Size {
			return filepath.Base(target), nil
		}
	}
	return fileSHA256(path)
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
