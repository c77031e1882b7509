package loader

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckRepoID(t *testing.T) {
	for _, id := range []string{"meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen2.5-7B-Instruct-1M", "a/b", "0/_", "a_b.c/d-e.f"} {
		if err := checkRepoID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", "a", "/", "a/", "/b", "a/b/c", "../../x", "../x", "a/..", "./a", "a/.b", "a/b.", "-a/b", "a/b-", "a--b/c", "a/b--c",
		"a/b..c", "a/b\x00", "a\x00/b", "a /b", "a/b\n", "a\\b/c", "ü/b", "a/b\xff", "a/" + strings.Repeat("b", 95), `C:\x/y`, "a/b?c", "models--a/b"} {
		if err := checkRepoID(id); err == nil {
			t.Errorf("%q: no error", id)
		}
	}
}

func TestFind(t *testing.T) {
	t.Chdir(filepath.Join(put(t, "a/b/file", ""), "a/b")) // ../../x is in the temporary folder too
	hub := put(t,
		"models--org--main/snapshots/c0ffee/config.json", "{}", "models--org--main/snapshots/dead/config.json", "{}",
		"models--org--main/refs/main", "c0ffee\n",
		"models--org--only/snapshots/c0ffee/config.json", "{}",
		"models--org--two/snapshots/aa/x", "", "models--org--two/snapshots/bb/x", "",
		"models--org--none/refs/other", "c0ffee",
		"models--org--stale/snapshots/aa/x", "", "models--org--stale/refs/main", "bb",
		"models--org--evil/snapshots/aa/x", "", "models--org--evil/refs/main", "../../../etc",
		"models--org--long/snapshots/aa/x", "", "models--org--long/refs/main", strings.Repeat("a", 2000),
		"models--org--empty/snapshots/aa/x", "", "models--org--empty/refs/main", "",
		"models--org--odd/refs/main/x", "",
	)
	t.Setenv("HF_HUB_CACHE", hub)
	for arg, want := range map[string]string{
		"org/main": "models--org--main/snapshots/c0ffee",
		"org/only": "models--org--only/snapshots/c0ffee",
	} {
		got, err := Find(arg)
		if err != nil || got != filepath.Join(hub, filepath.FromSlash(want)) {
			t.Errorf("Find(%q) = %q, %v", arg, got, err)
		}
	}
	for arg, want := range map[string][]string{
		"":                                {"empty name"},
		"org/absent":                      {hub, "HF_HUB_CACHE", "hf download org/absent"},
		"org/two":                         {`"aa", "bb"`, "refs"},
		"org/none":                        {"no snapshot", "hf download org/none"},
		"org/stale":                       {"bb", "hf download org/stale"},
		"org/evil":                        {`"../../../etc" instead of a commit`},
		"org/long":                        {"more than the 1024 allowed"},
		"org/empty":                       {`"" instead of a commit`},
		"org/odd":                         {"not a regular file"},
		"../../x":                         {`"../../x"`, "no repository id"},
		"a/b/c":                           {`"a/b/c"`, "want org/name"},
		"a\x00/b":                         {"NUL"},
		"org":                             {`"org"`, "want org/name"},
		"org/":                            {"neither of them empty"},
		strings.Repeat("x", 5000):         {"too long"},
		"org/" + strings.Repeat("x", 100): {"longer than 96"},
		"org/" + strings.Repeat("x", 100) + ".gz": {"longer than 96"},
	} {
		_, err := Find(arg)
		wantError(t, err, want...)
	}
}

func TestFindFolder(t *testing.T) {
	t.Chdir(put(t, "org/main/config.json", "{}", "a b\nc/x", "", "model.gguf", "", "model.safetensors", ""))
	t.Setenv("HF_HUB_CACHE", put(t, "models--org--main/snapshots/c0ffee/x", ""))
	for _, dir := range []string{"org/main", "./org/main", "org/../org", ".", "a b\nc"} {
		if got, err := Find(dir); err != nil || got != dir {
			t.Errorf("Find(%q) = %q, %v", dir, got, err)
		}
	}
	_, err := Find("model.gguf")
	wantError(t, err, "safetensors only")
	_, err = Find("model.safetensors")
	wantError(t, err, "give the folder")
}

func TestHubCache(t *testing.T) {
	home := t.TempDir()
	for _, test := range []struct {
		env        map[string]string
		dir, named string
	}{
		{map[string]string{}, filepath.Join(home, ".cache/huggingface/hub"), "HF_HUB_CACHE is not set"},
		{map[string]string{"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub", "XDG_CACHE_HOME"},
		{map[string]string{"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub", "HF_HOME"},
		{map[string]string{"XDG_CACHE_HOME": "/x", "HF_HOME": "/h", "HF_HUB_CACHE": "/c"}, "/c", "HF_HUB_CACHE"},
		{map[string]string{"HF_HOME": "~/h f"}, filepath.Join(home, "h f/hub"), "HF_HOME"},
	} {
		for _, name := range []string{"XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"} {
			t.Setenv(name, test.env[name])
		}
		t.Setenv("HOME", home)
		dir, source, err := hubCache()
		if err != nil || dir != filepath.FromSlash(test.dir) || !strings.Contains(source, test.named) {
			t.Errorf("%v: %q from %q, %v", test.env, dir, source, err)
		}
	}
	t.Setenv("HF_HOME", "~/h")
	t.Setenv("HOME", "")
	os.Unsetenv("HOME")
	_, _, err := hubCache()
	wantError(t, err, "HF_HOME=~/h")
	t.Setenv("HF_HOME", "")
	_, _, err = hubCache()
	wantError(t, err, "set HF_HUB_CACHE")
}
