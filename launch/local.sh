#!/usr/bin/env bash
# Train with N processes on this machine, which meet through jax.distributed.
#
#   launch/local.sh N --config=configs/quickstart.py --workdir=runs/two
#
# On CPUs each process has one device; with GPUs each process takes every N-th one.
# SIGTERM, SIGUSR1 and Ctrl-C go to all processes. They save and exit with 75, and so does this
# script: run the same command again to go on. A process that fails ends the others, and its
# status is that of this script.
set -euo pipefail
# shellcheck source=launch/flags.sh
source "$(dirname "$0")/flags.sh"

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh N --config=FILE[:arg] [--workdir=DIR ...]" >&2
  exit 2
fi
processes=$1
shift

free_port() {
  python -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
}

port=${JAX_COORDINATOR_PORT:-$(free_port)}
export JAX_COORDINATOR_ADDRESS=localhost:$port
# JAX would listen on all addresses of the machine, to anyone: the service asks for no password.
export JAX_COORDINATOR_BIND_ADDRESS=localhost:$port
export JAX_NUM_PROCESSES=$processes
export_flags_for "$(device_kind)"

gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
if ((gpus == 0)); then
  # XLA's threads: each process would start one for every core, and they would take turns.
  threads=$(nproc 2>/dev/null || echo 1)
  export PJRT_NPROC=${PJRT_NPROC:-$((threads > processes ? threads / processes : 1))}
fi
# Each process leads a group of its own: Ctrl-C reaches this script alone, which passes it on once.
set -m
pids=()
is_interrupted=false
pass_on() {
  is_interrupted=true
  kill -s "$1" "${pids[@]}" 2>/dev/null || true
}
for name in TERM INT USR1; do
  # shellcheck disable=SC2064  # the name of now
  trap "pass_on $name" "$name"
done
trap "pass_on TERM" HUP # the terminal was closed
# What is left of a failed run is killed, with the processes that it started.
end_all() {
  local pid
  for pid in "${pids[@]}"; do
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
}
trap end_all EXIT

for ((i = 0; i < processes; i++)); do
  if ((gpus > 0)); then
    CUDA_VISIBLE_DEVICES=$(seq -s, "$i" "$processes" "$((gpus - 1))") JAX_PROCESS_ID=$i \
      python -m bert_jax.train --distributed "$@" &
  else
    JAX_PROCESS_ID=$i python -m bert_jax.train --distributed "$@" &
  fi
  pids+=($!)
done

result=0
while true; do
  is_interrupted=false
  status=0
  wait -n || status=$?
  case $status in
    127) exit $result ;; # no process is left
    0) ;;
    75) result=75 ;;
    *) $is_interrupted || exit "$status" ;; # a signal that was passed on ends `wait` as well
  esac
done
