# pbs-run: `make` or `make help` lists what there is.

SEED     ?= 1
FUZZTIME ?= 30s
BENCH    ?= .

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0

# Packages whose tests also run under the race detector. Left out there: the kernels' conformance suite, whose
# float64 oracle takes minutes under it (model's tests drive the same worker pool), and counts of allocations,
# which the detector adds to.
RACE      = ./cmd/... ./eval ./kernels/cpu ./loader ./model ./tokenizer
RACE_SKIP = ^TestSuite$$|Alloc

.DEFAULT_GOAL := help
.PHONY: help build run test test-amx check fuzz bench clean tools lib cuda cuda-vet cuda-test test-cuda-build

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: lib ## build bin/pbs-run
	go build -o bin/pbs-run ./cmd/pbs-run

run: build ## answer a question from a long document with the demo model; SEED=n draws another one
	bin/pbs-run generate --model demo/model --prompt-file demo/document.txt --needle --seed $(SEED)

test: lib ## go vet and all tests, some packages under the race detector too
	go vet ./...
	go test -timeout 20m ./...
	go test -race -timeout 20m -skip '$(RACE_SKIP)' $(RACE)

test-amx: lib ## the kernels for AMX on any CPU with AVX-512 bf16, on tiles in plain C
	@grep -q avx512_bf16 /proc/cpuinfo || { echo "test-amx: skipped, this CPU has no AVX-512 bf16"; exit 0; }; \
	set -x; CGO_CFLAGS="-O2 -DPBS_SOFT_AMX" go test -timeout 20m ./kernels/cpu ./attention ./model

check: lib ## gofmt, go vet, staticcheck and the hygiene of the committed files
	@files=$$(gofmt -l .) && { [ -z "$$files" ] || { echo "check: run gofmt -w on" $$files >&2; exit 1; }; }
	go vet ./...
	go run $(STATICCHECK) ./...
	scripts/hygiene.sh

fuzz: lib ## every fuzz target for FUZZTIME (30s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh

bench: lib ## Go benchmarks; BENCH=regexp picks some
	go test -run '^$$' -bench '$(BENCH)' -timeout 60m ./...

# The CUDA binary: nvcc from CUDA_HOME, else from PATH, else 13.0 from PyPI. The kernels, one fat binary per source file, are embedded.
NVCC_ON_PATH := $(shell command -v nvcc 2>/dev/null)
WHEELS       := $(CURDIR)/.build/cuda/nvidia/cu13
CUDA_HOME    ?= $(if $(NVCC_ON_PATH),$(abspath $(dir $(realpath $(NVCC_ON_PATH)))/..),$(WHEELS))
NVCC          = $(CUDA_HOME)/bin/nvcc
GENCODE      ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_80,code=compute_80
LAZYCUDA      = .build/lazycuda/libcuda.a
CUDA_ENV      = CGO_ENABLED=1 CGO_CFLAGS="-O2 -g0 -I$(CURDIR)/scripts/cuda/include -I$(CUDA_HOME)/include" CGO_LDFLAGS="-L$(CURDIR)/.build/lazycuda"
CUDA_SRC      = kernels/cuda/src
FATBINS       = $(patsubst $(CUDA_SRC)/%.cu,kernels/cuda/fatbin/%.fatbin,$(wildcard $(CUDA_SRC)/*.cu))

cuda: lib $(LAZYCUDA) $(FATBINS) ## build bin/pbs-run-cuda, which runs on NVIDIA GPUs too
	$(CUDA_ENV) go build -tags cuda -o bin/pbs-run-cuda ./cmd/pbs-run

cuda-vet: lib $(LAZYCUDA) $(FATBINS)
	$(CUDA_ENV) go vet -tags cuda ./...

# cuda-test.bin is the tests of the CUDA backend, to be run on a machine with a GPU in the folder kernels/cuda.
cuda-test: lib $(LAZYCUDA) $(FATBINS)
	$(CUDA_ENV) go test -c -tags cuda -o bin/cuda-test ./kernels/cuda

test-cuda-build: lib
	scripts/cuda/test-build.sh

$(WHEELS)/bin/nvcc:
	scripts/cuda/toolchain.sh $(CURDIR)/.build/cuda

kernels/cuda/fatbin/%.fatbin: $(CUDA_SRC)/%.cu $(wildcard $(CUDA_SRC)/*.cuh) | $(NVCC)
	@mkdir -p $(@D)
	$(NVCC) -O3 -std=c++17 -fatbin $(GENCODE) -o $@ $<

# Go does not notice that the archive has changed: what links it goes.
$(LAZYCUDA): scripts/cuda/lazylib.sh | $(NVCC)
	scripts/cuda/lazylib.sh $(CUDA_HOME)/include/cuda.h $(@D)
	rm -f bin/pbs-run-cuda bin/cuda-test

clean: ## remove what was built, the Rust library too
	rm -rf bin .build kernels/cuda/fatbin

# The Rust library that package tokenizer links; the script does nothing when it is up to date.
lib: tools
	@scripts/libtokenizers.sh

# What a build needs, named before anything else starts. cargo is only needed until the library is there.
tools:
	@need() { command -v "$$1" >/dev/null 2>&1 || { echo "make: $$1 not found: $$2" >&2; exit 1; }; }; \
	need go "install Go 1.26 or newer from https://go.dev/dl"; \
	need cc "install a C compiler (Debian: apt install build-essential, macOS: xcode-select --install)"; \
	[ -f .build/lib/libtokenizers.a ] || need cargo "install Rust from https://rustup.rs"
