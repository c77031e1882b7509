#!/bin/sh
# One evaluation spread over a Slurm job array, then joined.
#
#   sbatch --array=0-7 docs/slurm-eval.sh longbench -m MODEL --data DATA --config CONFIG --attention full --attention pbs --out OUT
#
# Each task of the array runs one part of the samples into OUT/shard-i-of-n, where n is the size of the array, which must
# begin with 0. A task that was preempted or killed goes on where it was when it is queued again; to queue part 3 alone:
#
#   PBS_RUN_SHARDS=8 sbatch --array=3 docs/slurm-eval.sh ... (the same flags)
#
# When all are done:
#
#   pbs-run eval merge OUT
#
# OUT must be on a file system that all nodes share. Set resources with sbatch's own flags, as --gres=gpu:1 or
# --cpus-per-task=16, and PBS_RUN to the program where it is not on PATH.
#SBATCH --job-name=pbs-run-eval
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=pbs-run-eval-%A-%a.log
set -eu

if [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
	echo "slurm-eval.sh: run it as a job array: sbatch --array=0-7 $0 BENCHMARK FLAGS" >&2
	exit 1
fi
shards=${PBS_RUN_SHARDS:-$SLURM_ARRAY_TASK_COUNT}
if [ "$SLURM_ARRAY_TASK_MAX" -ge "$shards" ]; then
	echo "slurm-eval.sh: the array must be 0 to n-1, not $SLURM_ARRAY_TASK_MIN to $SLURM_ARRAY_TASK_MAX in $shards tasks" >&2
	exit 1
fi

# exec: signals of Slurm reach pbs-run itself, which then ends with whole files.
exec "${PBS_RUN:-pbs-run}" eval "$@" --shard "$SLURM_ARRAY_TASK_ID/$shards" ${SLURM_CPUS_PER_TASK:+--threads "$SLURM_CPUS_PER_TASK"}
