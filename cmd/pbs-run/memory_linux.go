package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// freeMemory returns the bytes this process may still take without swapping or being killed: what the kernel calls available,
// and no more than its control groups (version 1 or 2) leave. Page cache counts as free, since mapped weights live in it.
func freeMemory() (int64, error) { return freeBelow("/") }

// freeBelow is freeMemory of the system whose files lie below root.
func freeBelow(root string) (int64, error) {
	kib, err := field(filepath.Join(root, "proc/meminfo"), "MemAvailable:")
	if err != nil {
		return 0, fmt.Errorf("read free memory: %w", err)
	}
	free := kib << 10
	for _, g := range []struct{ dir, limit, usage, cache string }{
		{filepath.Join(root, "sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"},
		{filepath.Join(root, "sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"},
	} {
		limit, err1 := number(filepath.Join(g.dir, g.limit))
		usage, err2 := number(filepath.Join(g.dir, g.usage))
		if err1 != nil || err2 != nil {
			continue // no such group, or "max"
		}
		cache, err := field(filepath.Join(g.dir, "memory.stat"), g.cache)
		if err != nil {
			cache = 0
		}
		free = min(free, max(0, limit-usage+cache))
	}
	return free, nil
}

// field returns the number that stands after name on a line of its own.
func field(path, name string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if words := strings.Fields(sc.Text()); len(words) > 1 && words[0] == name {
			return strconv.ParseInt(words[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return math.MaxInt64, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// peakRSS returns the most memory this process has had resident, in bytes, mapped weights included.
func peakRSS() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Maxrss << 10
}
