package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Find returns the folder that the user means by arg: an existing folder, or else a repository id of the form org/name,
// looked up in the Hugging Face cache as huggingface_hub does: in HF_HUB_CACHE, or hub/ in HF_HOME, or huggingface/hub/ in
// XDG_CACHE_HOME, or in ~/.cache/huggingface/hub; there models--org--name/snapshots/<commit>, where refs/main names the
// commit. Nothing is downloaded: the error says where it looked and how to get the model.
func Find(arg string) (string, error) {
	if arg == "" {
		return "", errors.New("find model: empty name; give a folder or org/name")
	}
	if strings.ContainsRune(arg, 0) {
		return "", fmt.Errorf("find model %q: a name cannot hold a NUL byte", short(arg))
	}
	switch st, err := os.Stat(arg); {
	case err == nil && st.IsDir():
		return arg, nil
	case err == nil:
		return "", notFolder(arg)
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("find model %s: %w", short(arg), reason(err))
	}
	if err := checkRepoID(arg); err != nil {
		return "", fmt.Errorf("find model %q: no such folder, and no repository id: %w", short(arg), err)
	}
	hub, source, err := hubCache()
	if err != nil {
		return "", fmt.Errorf("find model %s: %w", arg, err)
	}
	return findSnapshot(arg, hub, source)
}

func notFolder(arg string) error {
	switch strings.ToLower(filepath.Ext(arg)) {
	case ".gguf", ".bin", ".pt", ".pth":
		return fmt.Errorf("find model %s: safetensors only; give a folder with %s", arg, singleName)
	}
	return fmt.Errorf("find model %s: a file; give the folder that holds it", arg)
}

// checkRepoID reports why id is not of the form org/name. The rules are those of huggingface_hub; they also keep the id
// from naming anything outside its place in the cache.
func checkRepoID(id string) error {
	const longest = 96
	if len(id) > longest {
		return fmt.Errorf("longer than %d characters", longest)
	}
	org, name, ok := strings.Cut(id, "/")
	if !ok || strings.Contains(name, "/") {
		return errors.New("want org/name")
	}
	for _, part := range []string{org, name} {
		if part == "" {
			return errors.New("want org/name, neither of them empty")
		}
		for _, c := range part {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)) {
				return fmt.Errorf("character %q; letters, digits and . _ - are allowed", c)
			}
		}
		if strings.ContainsRune(".-", rune(part[0])) || strings.ContainsRune(".-", rune(part[len(part)-1])) {
			return fmt.Errorf("%q begins or ends with . or -", part)
		}
		if strings.Contains(part, "..") || strings.Contains(part, "--") {
			return fmt.Errorf("%q holds .. or --", part)
		}
	}
	return nil
}

// hubCache returns the folder of cached repositories and the variable that chose it.
func hubCache() (dir, source string, err error) {
	for _, v := range []struct{ name, below string }{
		{"HF_HUB_CACHE", ""},
		{"HF_HOME", "hub"},
		{"XDG_CACHE_HOME", "huggingface/hub"},
	} {
		if value := os.Getenv(v.name); value != "" {
			if rest, ok := strings.CutPrefix(value, "~/"); ok {
				home, err := os.UserHomeDir()
				if err != nil {
					return "", "", fmt.Errorf("%s=%s: %w", v.name, value, err)
				}
				value = filepath.Join(home, rest)
			}
			return filepath.Join(value, filepath.FromSlash(v.below)), v.name, nil
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", fmt.Errorf("no Hugging Face cache: set HF_HUB_CACHE (%w)", err)
	}
	return filepath.Join(home, ".cache", "huggingface", "hub"), "the default; HF_HUB_CACHE is not set", nil
}

var commitName = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)

// findSnapshot returns the folder of repository id that refs/main names, or the only one there is.
func findSnapshot(id, hub, source string) (string, error) {
	download := "download it with: hf download " + id
	repo := filepath.Join(hub, "models--"+strings.Replace(id, "/", "--", 1))
	if _, err := os.Stat(repo); err != nil {
		return "", fmt.Errorf("find model %s: neither a folder nor in the cache %s (%s); %s", id, hub, source, download)
	}
	snapshots := filepath.Join(repo, "snapshots")
	ref := filepath.Join(repo, "refs", "main")
	text, err := readFile(ref, 1024)
	if err == nil {
		commit := strings.TrimSpace(string(text))
		if !commitName.MatchString(commit) {
			return "", fmt.Errorf("find model %s: %s holds %q instead of a commit", id, ref, short(commit))
		}
		dir := filepath.Join(snapshots, commit)
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			return "", fmt.Errorf("find model %s: %s names the snapshot %s, which is not in %s; %s", id, ref, commit, snapshots, download)
		}
		return dir, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find model %s: %w", id, err)
	}
	entries, err := os.ReadDir(snapshots)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find model %s: read %s: %w", id, snapshots, reason(err))
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() && commitName.MatchString(e.Name()) {
			found = append(found, e.Name())
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("find model %s: no snapshot in %s; %s", id, snapshots, download)
	case 1:
		return filepath.Join(snapshots, found[0]), nil
	}
	return "", fmt.Errorf("find model %s: no %s to choose between the snapshots %s; give one of the folders in %s", id, ref, quoteAll(found), snapshots)
}
