#!/bin/sh
# first-run.sh OUT [part...]: what to run on a machine with a GPU, most telling first, in parts meant to end within ten minutes: correct,
# sanitize, speed, ttft (all of them by default). Every step has its own time limit and its output in a file; a failure stops nothing.
# OUT gets summary.txt, a line per step, and logs.tgz with all output.
#
# Needs no Go and no compiler: elsewhere, `make cuda cuda-test` and scripts/cuda/carry.sh make bin/gpu.tgz (some 18 MiB), to be carried beside a
# checkout (40 MiB). Python with PyTorch, where there is one, lends its cuBLASLt and gives the rivals.
set -u
out=$(mkdir -p "${1:?usage: first-run.sh OUT [correct|sanitize|speed|ttft]...}" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
root=$PWD
bin=$root/bin/pbs-run-cuda
[ ! -f bin/gpu.tgz ] || tar -xzf bin/gpu.tgz -C bin
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

for module in nvidia.cublas nvidia.cu13; do # PyTorch for CUDA 12 and for 13, which comes first
	if lib=$(python3 -c "import $module as m; print(list(m.__path__)[0] + '/lib')" 2>/dev/null) && ls "$lib"/libcublasLt.so.* >/dev/null 2>&1; then
		export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
	fi
done

# step NAME SECONDS COMMAND...: runs a command, keeps its output, tells how it went and its last lines.
step() {
	name=$1 limit=$2
	shift 2
	begin=$(date +%s)
	timeout -k 10 "$limit" "$@" >"$logs/$name.log" 2>&1
	code=$?
	# A whole test that did not run proves nothing; TestGolden leaves out cases of its own that are not for a device.
	if [ $code -eq 0 ] && grep -q -e '^--- SKIP' -e 'no tests to run' "$logs/$name.log"; then code=77; fi
	line="$name: exit $code, $(($(date +%s) - begin)) s of $limit"
	echo "== $line"
	echo "$line" >>"$out/summary.txt"
	if [ $code -ne 0 ]; then
		grep -E -m 12 'FAIL|SKIP|no CUDA|panic|wrong|want|rror|=========' "$logs/$name.log" | tee -a "$out/summary.txt"
	fi
	tail -n "${TAIL:-3}" "$logs/$name.log"
	tar -czf "$out/logs.tgz" -C "$logs" .
	return $code
}
# suite NAME SECONDS PATTERN [COMMAND...]: tests of kernels/cuda, under COMMAND.
suite() {
	name=$1 limit=$2 pattern=$3
	shift 3
	(cd kernels/cuda && step "$name" "$limit" "$@" "$root/bin/cuda-test" -test.v -test.run "$pattern")
}
clocks() { step "clocks-$1" 10 nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv; }

correct() {
	clocks correct
	suite one-op 60 'TestSuite$/Embed$'                # the driver takes our calls
	suite probes 60 'TestProbes$'                      # TMA and wgmma, one feature each: what attend_tma.cuh stands on
	suite tma 60 'TestTMA$'                            # its kernels against those of attend.cuh, smallest first
	suite suite 150 'TestSuite$'                       # the conformance suite, cuBLASLt where found
	suite suite-tma 90 'TestSuite$/(Attend|AttendBlocks)$' env PBS_CUDA_ATTENTION=tma && touch "$out/tma-is-right"
	suite suite-own 90 'TestSuiteOwn$/(MatMul|SwiGLU)$'
	suite golden 60 'TestGolden$'
	suite golden-tma 60 'TestGolden$' env PBS_CUDA_ATTENTION=tma
	suite draw 30 'TestDraw$'
	step demo-pbs 30 "$bin" generate -m demo/model --device cuda --prompt-file demo/document.txt --attention pbs --needle
	step demo-full 30 "$bin" generate -m demo/model --device cuda --prompt-file demo/document.txt --attention full --needle
}

sanitize() {
	for tool in memcheck racecheck synccheck; do
		suite $tool-tma 80 'TestTMA$/(2@0|128@0|256@0|700@0)' compute-sanitizer --error-exitcode 9 --tool $tool
	done
	suite memcheck-suite 150 'TestSuite$/(Embed|RMSNorm|RopeAppend|SortKeys|PoolBlocks|AttendBlocks|SelectBlocks)$' compute-sanitizer --error-exitcode 9 --tool memcheck
	suite racecheck-suite 150 'TestSuite$/(SortKeys|AttendBlocks|SelectBlocks)$' compute-sanitizer --error-exitcode 9 --tool racecheck
	suite memcheck-own 60 'TestSuiteOwn$/MatMul$' compute-sanitizer --error-exitcode 9 --tool memcheck
}

# The attention kernels to report TTFT with: those of sm_90a where their suite passed.
fastest() { if [ -e "$out/tma-is-right" ]; then echo tma; fi; }

speed() {
	clocks speed
	TAIL=12
	for kind in mma tma; do
		step "attention-$kind" 120 env PBS_CUDA_ATTENTION=$kind "$bin" bench attention --device cuda --head-dim 128 --lengths 16K,64K --attention full --attention pbs --density 0.3 --repeat 5
	done
	step attention-64 60 env PBS_CUDA_ATTENTION="$(fastest)" "$bin" bench attention --device cuda --head-dim 64 --lengths 16K --attention full --attention pbs --density 0.3
	step attention-128k 120 env PBS_CUDA_ATTENTION="$(fastest)" "$bin" bench attention --device cuda --head-dim 128 --lengths 128K --attention full --attention pbs --density 0.3
	step rivals 100 python3 scripts/cuda/rivals.py 16384 65536
	clocks speed-end
}

ttft() {
	clocks ttft
	TAIL=14
	prefill="env PBS_CUDA_ATTENTION=$(fastest) $bin bench prefill --device cuda --allow-extrapolation --load-format dummy --attention full --attention pbs"
	step ttft-llama 200 $prefill --config llama-3.1-8b --lengths 8K,32K,64K,128K --repeat 2 --force-density 0.3
	step ttft-llama-256k 180 $prefill --config llama-3.1-8b --lengths 256K --repeat 1 --force-density 0.3
	step ttft-qwen 120 $prefill --config qwen2.5-7b-1m --lengths 64K,128K --repeat 2 --force-density 0.3
	step ttft-own 60 env PBS_CUDA_GEMM=own $prefill --config llama-3.1-8b --lengths 8K --repeat 2
	clocks ttft-end
}

[ $# -gt 0 ] || set -- correct sanitize speed ttft
for part; do
	case $part in
	correct | sanitize | speed | ttft) $part ;;
	*) echo "first-run: no part $part" >&2; exit 2 ;;
	esac
done
echo "== summary"
cat "$out/summary.txt"
