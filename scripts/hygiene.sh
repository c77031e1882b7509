#!/bin/sh
# Checks what no compiler does: that the committed files stand on their own and stay small.
set -eu
cd "$(dirname "$0")/.."
bad=0
fail() { echo "hygiene: $*" >&2; bad=1; }

# A clone alone must work, anywhere.
if git grep -nIE '(\.\./)+shared/|/(home|root|Users)/[a-z]' -- . ':!scripts/hygiene.sh'; then
	fail "the lines above name a path outside the repository"
fi

# Test data without a test that reads it is dead weight: each reference output has its model and the other way round.
for golden in testdata/golden/*.json; do
	name=$(basename "$golden" .json)
	[ -f "testdata/models/$name/config.json" ] || fail "$golden: no testdata/models/$name"
	[ -f "testdata/golden/$name.safetensors" ] || fail "$golden: no testdata/golden/$name.safetensors"
done
for model in testdata/models/*/; do
	name=$(basename "$model")
	[ -f "testdata/golden/$name.json" ] || fail "$model: no testdata/golden/$name.json"
done

# One file of 16 MB is the demo model's allowance; nothing else comes near.
limit=$((16 * 1024 * 1024))
large=$(git ls-files -z | xargs -0 ls -ln | awk -v limit="$limit" '$5 > limit')
[ -z "$large" ] || fail "larger than $limit bytes:
$large"

go mod verify >/dev/null || fail "go mod verify: a module in the cache was changed"
go mod tidy -diff >/dev/null || fail "go.mod or go.sum is not tidy: run go mod tidy"

exit "$bad"
