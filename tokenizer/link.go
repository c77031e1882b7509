package tokenizer

// scripts/libtokenizers.sh puts the Rust library here; the libraries it needs in turn are
// named by github.com/daulet/tokenizers.

// #cgo LDFLAGS: -L${SRCDIR}/../.build/lib
import "C"
