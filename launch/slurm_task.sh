#!/usr/bin/env bash
# One process of launch/slurm.sbatch, started by srun on its node (inside the container, if any).
#
#   launch/slurm_task.sh --report    prints the node and the GPU that this process would take
#   launch/slurm_task.sh FLAGS       trains
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/flags.sh
source launch/flags.sh

# Which GPUs does SLURM show this task: all of the node, or (SLURM 25.05.9) its own one only?
if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
  IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
else
  mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true)
fi
own=$((${#gpus[@]} > 1 ? SLURM_LOCALID : 0))

if [[ ${1:-} == --report ]]; then
  gpu=
  if [[ -n ${gpus[own]:-} ]]; then
    gpu=$(nvidia-smi --id="${gpus[own]}" --query-gpu=uuid --format=csv,noheader 2>/dev/null || true)
  fi
  echo "$SLURMD_NODENAME ${gpu:-none}"
  exit
fi

export JAX_PROCESS_ID=$SLURM_PROCID
if ((${#gpus[@]} > 0)); then
  # JAX would take the device numbered SLURM_LOCALID, which is not there where a task sees one.
  export JAX_LOCAL_DEVICE_IDS=$own
fi
export_flags_for "$(device_kind)"
exec "${PYTHON:-python}" -m bert_jax.train --distributed "$@"
