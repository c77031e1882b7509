#!/bin/sh
# carry.sh: packs bin/pbs-run-cuda and bin/cuda-test, stripped, into bin/gpu.tgz: what a machine with a GPU and without Go needs beside the
# checkout to run first-run.sh. Says how large both are.
set -eu
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for f in pbs-run-cuda cuda-test; do
	[ -f "bin/$f" ] || { echo "carry: no bin/$f: run make cuda cuda-test" >&2; exit 1; }
	strip -o "$dir/$f" "bin/$f"
done
tar -czf bin/gpu.tgz -C "$dir" .
du -m bin/gpu.tgz
git ls-files -z | xargs -0 du -cm | sed -n 's/total/the checkout/p'
