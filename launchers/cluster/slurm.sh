#!/usr/bin/env bash
# A study on several nodes of a Slurm cluster, continued by itself when the job is requeued:
#   sbatch --nodes 2 launchers/cluster/slurm.sh /shared/results/bsd500 search_spaces=irnas_denoise cluster=gpu ...
# Submit it from a clone of the repository, with the project's environment active; docs/cluster.md explains it.
#SBATCH --job-name=irnas
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
# the batch script is told two minutes before the time is over, and the study saves its state
#SBATCH --signal=B:TERM@120
set -euo pipefail

folder=${1:?"the first argument is the folder of the study, on a disk that all nodes share"}
shift
# who knows the token can run code on the cluster; other users of the nodes must not
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on() { srun --nodes=1 --ntasks=1 --nodelist="$1" "${@:2}"; }
read -r address _ < <(on "${nodes[0]}" hostname --ip-address)
port=$((20000 + SLURM_JOB_ID % 10000))
options=(--block --num-cpus "${SLURM_CPUS_PER_TASK:-1}" --num-gpus "${SLURM_GPUS_ON_NODE:-0}")

steps=()
# Slurm itself ends what is left of the steps
trap 'kill "${steps[@]}" 2>/dev/null || true' EXIT

on "${nodes[0]}" ray start --head --node-ip-address "$address" --port "$port" --dashboard-host 127.0.0.1 \
  --temp-dir "/tmp/ray-$SLURM_JOB_ID" "${options[@]}" &
steps+=($!)
until ray health-check --address "$address:$port" 2>/dev/null; do sleep 1; done
for node in "${nodes[@]:1}"; do
  on "$node" ray start --address "$address:$port" "${options[@]}" &
  steps+=($!)
done

export RAY_ADDRESS="$address:$port"
python - "${#nodes[@]}" <<'PYTHON'
import sys, time
import ray

ray.init(logging_level="ERROR")
deadline = time.time() + 300
while (joined := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[1]):
    if time.time() > deadline:
        sys.exit(f"only {joined} of {sys.argv[1]} nodes joined within five minutes")
    time.sleep(1)
PYTHON

bash "${SLURM_SUBMIT_DIR:-.}/launchers/cluster/search_or_resume.sh" "$folder" "$@" &
study=$!
trap 'kill -TERM "$study"' TERM
status=0
wait "$study" || status=$?
# a signal interrupts the first wait; the second returns when the study has saved its state
if kill -0 "$study" 2>/dev/null; then
  status=0
  wait "$study" || status=$?
fi
exit "$status"
