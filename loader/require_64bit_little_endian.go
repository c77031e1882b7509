//go:build !(amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package loader

// Weights are used where they lie in the file, little-endian, and may be larger than 32 bits can address. This line does
// not compile; its name is the message.
var _ = pbs_run_needs_a_64_bit_little_endian_machine
