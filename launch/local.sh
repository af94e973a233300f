#!/usr/bin/env bash
# Train with N processes on this machine, which meet through jax.distributed.
#
#   launch/local.sh N --config=configs/quickstart.py --workdir=runs/two
#
# On CPUs each process has one device; with GPUs each process takes every N-th one.
# A process that fails ends the others, and its status is that of this script.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh N --config=FILE[:arg] [--workdir=DIR ...]" >&2
  exit 2
fi
processes=$1
shift

free_port() {
  python -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
}

export JAX_COORDINATOR_ADDRESS="localhost:${JAX_COORDINATOR_PORT:-$(free_port)}"
export JAX_NUM_PROCESSES=$processes
export JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo

gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
# JAX keeps a SIGTERM for itself, so what is left of a failed run is killed.
trap 'kill -KILL $(jobs -p) 2>/dev/null || true' EXIT
for ((i = 0; i < processes; i++)); do
  if ((gpus > 0)); then
    CUDA_VISIBLE_DEVICES=$(seq -s, "$i" "$processes" "$((gpus - 1))") JAX_PROCESS_ID=$i \
      python -m bert_jax.train --distributed "$@" &
  else
    JAX_PROCESS_ID=$i python -m bert_jax.train --distributed "$@" &
  fi
done
for ((i = 0; i < processes; i++)); do
  wait -n
done
