//go:build unix && !linux

package loader

// adviseHuge is a hint that only Linux takes.
func adviseHuge([]byte) {}
