#!/bin/sh
# first-run.sh: what to run on a machine with a GPU after the conformance suite: the demo model on CPU and GPU, then benchmarks. Needs
# bin/pbs-run-cuda; prints as it goes and goes on after a failure.
cd "$(dirname "$0")/../.."
bin=bin/pbs-run-cuda
step() { echo; echo "== $*"; "$@"; echo "-- exit $?"; }

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv
# The same logits, but for bf16: the CPU in f32 is the reference that golden data holds it to.
for model in testdata/models/*/; do
	step $bin generate -m "$model" --device cpu --precision f32 --no-chat-template --temperature 0 --max-new-tokens 16 "The quick brown fox"
	step $bin generate -m "$model" --device cuda --no-chat-template --temperature 0 --max-new-tokens 16 "The quick brown fox"
done
step $bin generate -m demo/model --device cuda --prompt-file demo/document.txt --attention pbs --needle
step $bin generate -m demo/model --device cuda --prompt-file demo/document.txt --attention full --needle
step $bin bench attention --device cuda --lengths 16K,64K --attention full --attention pbs --density 0.3
for gemm in lib own; do
	step env PBS_CUDA_GEMM=$gemm $bin bench prefill --device cuda --load-format dummy --config llama-3.1-8b --lengths 8K,32K --attention full --attention pbs
done
step $bin bench prefill --device cuda --load-format dummy --config llama-3.1-8b --lengths 64K,128K --attention full --attention pbs
step $bin bench prefill --device cuda --load-format dummy --config qwen2.5-7b-1m --lengths 64K,128K --attention full --attention pbs
nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv
