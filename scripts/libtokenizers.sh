#!/bin/sh
# Builds .build/lib/libtokenizers.a, the Rust library that package tokenizer links,
# from the crate sources that the Go module github.com/daulet/tokenizers carries.
# Does nothing when the library of the version in go.mod is already there.
#
# Two changes to the crates, so that cargo needs a registry and nothing else:
# tiktoken-rs comes from the registry instead of a git address, and the WebAssembly
# crate, which needs tools of its own, is left out. Every other version is the one in
# the module's Cargo.lock.
set -eu

module=github.com/daulet/tokenizers
recipe=1 # raise when this script builds something else from the same module version

cd "$(dirname "$0")/.."
lib=.build/lib/libtokenizers.a
stamp=.build/lib/libtokenizers.version

say() { echo "libtokenizers: $*" >&2; }
fail() { say "$*"; exit 1; }

need() { # need TOOL HOW-TO-GET-IT
	command -v "$1" >/dev/null 2>&1 || fail "$1 not found: $2"
}
need go "install Go 1.26 or newer from https://go.dev/dl"

version=$(go list -m -f '{{.Version}}' "$module") || fail "go list cannot read go.mod"
want="$module $version recipe $recipe $(go env GOOS)/$(go env GOARCH)"
if [ -f "$lib" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
	exit 0
fi

need cargo "install Rust from https://rustup.rs"
need cc "install a C compiler (Debian: apt install build-essential, macOS: xcode-select --install)"
need c++ "install a C++ compiler (Debian: apt install build-essential, macOS: xcode-select --install)"

go mod download "$module" || fail "go mod download $module failed: is the network there?"
src=$(go list -m -f '{{.Dir}}' "$module")
[ -n "$src" ] || fail "module $module is not in the Go module cache"

mkdir -p .build/lib
work=$(mktemp -d "$PWD/.build/libtokenizers.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

mkdir "$work/crates"
cp "$src/Cargo.toml" "$src/Cargo.lock" "$src/LICENSE" "$work/"
cp -R "$src/crates/tokenizers" "$work/crates/"
chmod -R u+w "$work"
edit() { # edit FILE SED-EXPRESSION; sed -i differs between systems
	sed "$2" "$1" >"$1.new" && mv "$1.new" "$1"
}
edit "$work/Cargo.toml" '/crates\/tokenizers-wasm/d'
edit "$work/crates/tokenizers/Cargo.toml" 's/^tiktoken-rs *=.*/tiktoken-rs = "=0.9.1"/'
grep -q '^tiktoken-rs = "=0.9.1"$' "$work/crates/tokenizers/Cargo.toml" ||
	fail "crates/tokenizers/Cargo.toml of $version does not name tiktoken-rs: this script needs an update"

unset CARGO_BUILD_TARGET # would move the result
say "building $version with cargo (about two minutes, once)"
if ! cargo build --quiet --release --package tokenizers-ffi \
	--manifest-path "$work/Cargo.toml" --target-dir "$work/target" >"$work/log" 2>&1; then
	tail -n 40 "$work/log" >&2
	fail "cargo build failed (above); a recent Rust is needed: rustup update"
fi

# Moved into place last and whole, stamp after library: a run that is cut short leaves no
# library that looks finished.
rm -f "$stamp"
mv "$work/target/release/libtokenizers_ffi.a" "$lib"
echo "$want" >"$work/stamp"
mv "$work/stamp" "$stamp"
say "built $lib"
