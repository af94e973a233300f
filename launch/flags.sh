#!/usr/bin/env bash
# The environment variables that suit a kind of device: one table for all launchers.
#
#   launch/flags.sh KIND     prints NAME=VALUE lines for cpu, gpu, hopper or tpu
#
# A variable that is set already keeps its value. XLA_FLAGS is left to you on purpose: a flag that
# XLA has removed ends the process at its start. Each row is started by tests/launch/test_flags.py.

# kind   variable                            value; the reason for it
DEVICE_FLAGS='
cpu      JAX_CPU_COLLECTIVES_IMPLEMENTATION  gloo; processes on CPUs exchange gradients through it
gpu      JAX_OPTIMIZATION_LEVEL              O1; overlaps the exchange of gradients with computing, in place of a list of XLA flags
gpu      XLA_PYTHON_CLIENT_MEM_FRACTION      0.9; JAX takes three quarters of the memory by default; NCCL and cuDNN need some of the rest
hopper   CUDA_DEVICE_MAX_CONNECTIONS         1; kernels start in program order, so that the exchange overlaps; it slows Blackwell down
tpu      LIBTPU_INIT_ARGS                    --xla_tpu_enable_data_parallel_all_reduce_opt=true; overlaps the sums of gradients over the data axis
tpu      LIBTPU_INIT_ARGS                    --xla_tpu_data_parallel_opt_different_sized_ops=true; the same for gradients of different sizes
'

# Print NAME=VALUE for a kind of device; rows of one variable are joined by spaces.
flags_for() {
  local kind=$1 row variable text names=() row_kind
  declare -A values=()
  while read -r row_kind variable text; do
    if [[ $row_kind == "$kind" || ($row_kind == gpu && $kind == hopper) ]]; then
      [[ -v values[$variable] ]] || names+=("$variable")
      values[$variable]+="${values[$variable]:+ }${text%%;*}"
    fi
  done <<<"$DEVICE_FLAGS"
  if ((${#names[@]} == 0)); then
    echo "launch/flags.sh: no kind of device named $kind: use cpu, gpu, hopper or tpu" >&2
    return 2
  fi
  for row in "${names[@]}"; do
    echo "$row=${values[$row]}"
  done
}

# The kind of device of this machine: hopper, gpu or cpu.
device_kind() {
  case $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null || true) in
    *H100* | *H20* | *H800*) echo hopper ;;
    ?*) echo gpu ;;
    *) echo cpu ;;
  esac
}

# Export the flags for a kind of device, but for those that are set already.
export_flags_for() {
  local line
  while read -r line; do
    [[ -v ${line%%=*} ]] || export "${line?}"
  done < <(flags_for "$1")
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  flags_for "${1:-}"
fi
