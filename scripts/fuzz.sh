#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME each (default 30s), one after another.
set -eu
cd "$(dirname "$0")/.."
fuzztime=${FUZZTIME:-30s}

packages=$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...)
targets=0
for package in $packages; do
	listing=$(go test -list '^Fuzz' "$package")
	for target in $(echo "$listing" | grep '^Fuzz' || true); do
		echo "fuzz: $package $target for $fuzztime"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package"
		targets=$((targets + 1))
	done
done
if [ "$targets" -eq 0 ]; then
	echo "fuzz: no fuzz target found" >&2
	exit 1
fi
echo "fuzz: $targets targets passed"
