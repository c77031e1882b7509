#!/bin/sh
# resources.sh: registers and spilled bytes of every kernel for sm_80 and sm_90a; fails if an attention kernel spills, or if the compiler has
# products of sm_90a wait for one another (C75xx).
# Needs nvcc: see make cuda. Shared memory is given at launch: kernels/cuda/*.go.
set -eu
cd "$(dirname "$0")/../.."
nvcc=${CUDA_HOME:+$CUDA_HOME/bin/nvcc}
[ -n "$nvcc" ] || nvcc=$(command -v nvcc || echo .build/cuda/nvidia/cu13/bin/nvcc)
out=$(mktemp)
trap 'rm -f "$out" "$out.cubin"' EXIT
printf '%-7s %-22s %9s %12s %11s\n' target kernel registers spill-stores spill-loads
bad=0
for arch in sm_80 sm_90a; do
	for src in kernels/cuda/src/*.cu; do
		"$nvcc" -O3 -std=c++17 -cubin -arch="$arch" -Xptxas -v -o "$out.cubin" "$src" >"$out" 2>&1 || { cat "$out" >&2; exit 1; }
		if grep 'C75[0-9][0-9]' "$out" >&2; then bad=1; fi
		awk -v arch="$arch" '
			/Compiling entry function/ { split($0, part, "\047"); name = part[2] }
			/spill stores/ { for (i = 1; i <= NF; i++) { if ($i == "spill" && $(i + 1) ~ /^stores/) stores = $(i - 2); if ($i == "spill" && $(i + 1) ~ /^loads/) loads = $(i - 2) } }
			/Used [0-9]+ registers/ {
				for (i = 1; i <= NF; i++) if ($i == "Used") regs = $(i + 1)
				printf "%-7s %-22s %9d %12d %11d\n", arch, name, regs, stores, loads
				if (name ~ /^(attend|decode)/ && stores + loads > 0) bad = 1
			}
			END { exit bad }' "$out" || bad=1
	done
done
if [ "$bad" -ne 0 ]; then
	echo "resources: an attention kernel spills registers or has its products wait" >&2
	exit 1
fi
