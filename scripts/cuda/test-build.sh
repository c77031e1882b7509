#!/bin/sh
# What can be proved of the CUDA build without a GPU: it compiles and vets, no attention kernel spills registers, its calls of the driver
# pass on a mock, the binary starts without a driver, and the default build has nothing of it. Skipped where neither nvcc nor PyPI's can be had.
set -eu
cd "$(dirname "$0")/../.."

if go list -deps ./cmd/pbs-run | grep -q '^gorgonia.org/'; then
	echo "test-cuda-build: the default build imports gorgonia.org/cu" >&2
	exit 1
fi
if [ -z "${CUDA_HOME:-}" ] && ! command -v nvcc >/dev/null 2>&1 && ! scripts/cuda/toolchain.sh "$PWD/.build/cuda"; then
	echo "test-cuda-build: SKIPPED: no nvcc in CUDA_HOME or on PATH, and PyPI's could not be fetched"
	exit 0
fi
make --no-print-directory cuda cuda-vet cuda-test
scripts/cuda/resources.sh

fail() { echo "test-cuda-build: $*" >&2; exit 1; }
# A folder without libcuda.so.1 in front of the loader's own: where there is a driver this still runs, with a GPU or without.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
if ! ldconfig -p 2>/dev/null | grep -q libcuda.so.1; then
	if bin/pbs-run-cuda bench attention --device cuda --lengths 256 >"$dir/out" 2>&1; then
		fail "--device cuda succeeds without a driver"
	fi
	grep -q 'no CUDA device' "$dir/out" || fail "--device cuda without a driver says: $(cat "$dir/out")"
	bin/pbs-run-cuda bench attention --device auto --lengths 256 >"$dir/out" 2>&1 || fail "--device auto without a driver fails: $(cat "$dir/out")"
	grep -q 'no CUDA device: computing on the CPU' "$dir/out" || fail "--device auto without a driver says: $(cat "$dir/out")"
fi
(cd kernels/cuda && ../../bin/cuda-test -test.run Mock) >"$dir/out" 2>&1 || fail "against the mock of the driver: $(cat "$dir/out")"
bin/pbs-run-cuda --help >/dev/null || fail "the binary does not start"
echo "test-cuda-build: ok"
