package loader

import (
	"go/build"
	"testing"
)

// TestMachines: a build for a machine that cannot use weights in place must fail, by the file that does not compile.
func TestMachines(t *testing.T) {
	for arch, refused := range map[string]bool{
		"amd64": false, "arm64": false, "riscv64": false, "loong64": false, "ppc64le": false, "mips64le": false,
		"386": true, "arm": true, "mips": true, "mipsle": true, "wasm": true, "ppc64": true, "s390x": true, "mips64": true,
	} {
		context := build.Default
		context.GOOS, context.GOARCH = "linux", arch
		in, err := context.MatchFile(".", "require_64bit_little_endian.go")
		if err != nil || in != refused {
			t.Errorf("%s: refused %v, want %v (%v)", arch, in, refused, err)
		}
	}
}
