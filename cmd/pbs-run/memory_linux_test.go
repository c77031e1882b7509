package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFreeMemory: what a control group of either version leaves counts, its page cache being free.
func TestFreeMemory(t *testing.T) {
	const meminfo = "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    400 kB\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no group":  {map[string]string{}, 400 << 10},
		"no limit":  {map[string]string{"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "1000\n"}, 400 << 10},
		"version 2": {map[string]string{"sys/fs/cgroup/memory.max": "100000\n", "sys/fs/cgroup/memory.current": "30000\n", "sys/fs/cgroup/memory.stat": "file 5000\ninactive_file 4000\n"}, 74000},
		"version 1": {map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "100000\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "30000\n", "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 1000\n"}, 71000},
		"no stat":   {map[string]string{"sys/fs/cgroup/memory.max": "100000\n", "sys/fs/cgroup/memory.current": "30000\n"}, 70000},
		"full":      {map[string]string{"sys/fs/cgroup/memory.max": "100000\n", "sys/fs/cgroup/memory.current": "100001\n"}, 0},
		"large":     {map[string]string{"sys/fs/cgroup/memory.max": "9000000000\n", "sys/fs/cgroup/memory.current": "0\n"}, 400 << 10},
	} {
		root := t.TempDir()
		c.files["proc/meminfo"] = meminfo
		for path, text := range c.files {
			path = filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := freeBelow(root); err != nil || got != c.want {
			t.Errorf("%s: %d bytes are free, %v; want %d", name, got, err, c.want)
		}
	}
	if _, err := freeBelow(t.TempDir()); err == nil {
		t.Error("no error without /proc/meminfo")
	}
}
