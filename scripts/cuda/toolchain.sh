#!/bin/sh
# toolchain.sh DIR: nvcc 13.0 and its headers from PyPI into DIR, for a machine without a CUDA toolkit (105 MB to download, 271 MB
# on disk). Does nothing when they are there.
set -eu
dir=$1
home=$dir/nvidia/cu13
[ -x "$home/bin/nvcc" ] && [ -e "$home/include/nv/target" ] && exit 0

say() { echo "cuda toolchain: $*" >&2; }
command -v python3 >/dev/null 2>&1 || { say "no nvcc in CUDA_HOME or on PATH, and no python3 to fetch one: install the CUDA toolkit 13, or python3 with pip"; exit 1; }
say "no nvcc in CUDA_HOME or on PATH: fetching 13.0 from PyPI, once"
# All five share a folder, and pip --target leaves out a package whose folder is there already: they go in together.
rm -rf "$dir"
python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary=:all: --target "$dir" \
	nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 ||
	{ rm -rf "$dir"; say "pip could not fetch them: is the network there?"; exit 1; }
[ -x "$home/bin/nvcc" ] || { say "the packages hold no nvcc"; exit 1; }
