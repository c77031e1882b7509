#!/bin/sh
# carry.sh: strips bin/pbs-run-cuda and bin/cuda-test for a machine without Go and says what first-run.sh needs there and how large it is.
set -eu
cd "$(dirname "$0")/../.."
for f in bin/pbs-run-cuda bin/cuda-test; do
	[ -f "$f" ] || { echo "carry: no $f: run make cuda cuda-test" >&2; exit 1; }
	strip "$f"
done
du -cm bin/pbs-run-cuda bin/cuda-test
git ls-files -z | xargs -0 du -cm | tail -n 1 | sed 's/total/files of the checkout/'
