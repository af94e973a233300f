#!/usr/bin/env bash
# Train on Kubernetes (GKE): fill in a manifest and apply it.
#
#   NAME=… IMAGE=… TPU=tpu-v5-lite-podslice TOPOLOGY=4x4 launch/gke.sh [--dry-run] jobset FLAGS
#   NAME=… IMAGE=… GPU=nvidia-h100-80gb GPUS=8 HOSTS=2 launch/gke.sh [--dry-run] trainjob FLAGS
#
# jobset is launch/gke_jobset.yaml, trainjob is launch/gke_trainjob.yaml (Kubeflow Trainer);
# --dry-run prints the manifest, FLAGS are those of the train command. Variables:
#   NAME, IMAGE       of the run, and of a container with bert_jax installed where it starts
#   TPU, TOPOLOGY     GKE's name of the slice's kind, and its chips (4x4); CHIPS: chips a host (4)
#   GPU, GPUS, HOSTS  GKE's name of the GPU, GPUs a host, hosts; one process has all GPUs of a host
#   CLAIM             a volume claim that all hosts may write to, mounted at /runs
#   QUEUE             Kueue's local queue
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=launch/flags.sh
source ./flags.sh

refuse() {
  echo "gke.sh: $1" >&2
  exit 2
}
# YAML takes JSON's strings and, over several lines, its lists.
list() {
  local IFS=,
  echo "[${*/#/$'\n                    '}]"
}
json() {
  local text=${1//\\/\\\\}
  echo "\"${text//\"/\\\"}\""
}

is_dry_run=false
if [[ ${1:-} == --dry-run ]]; then
  is_dry_run=true
  shift
fi
kind=${1:-}
[[ $kind == jobset || $kind == trainjob ]] || refuse "say jobset or trainjob, then the train command's flags"
shift
export NAME=${NAME:?set NAME, the name of the run} IMAGE=${IMAGE:?set IMAGE, the container image}
[[ $NAME =~ ^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$ ]] ||
  refuse "NAME=$NAME: lower-case letters, digits and -, at most 42, for the pods' names to fit"

# --- What a host is.
if [[ -n ${TPU:-} ]]; then
  CHIPS=${CHIPS:-4}
  chips=$((${TOPOLOGY//x/*}))
  ((chips % CHIPS == 0)) || refuse "TOPOLOGY=$TOPOLOGY has $chips chips, not a multiple of CHIPS=$CHIPS"
  export HOSTS=$((chips / CHIPS))
  export NODE_SELECTOR="{cloud.google.com/gke-tpu-accelerator: $TPU, cloud.google.com/gke-tpu-topology: $TOPOLOGY}"
  export LIMITS="{google.com/tpu: $CHIPS}"
  # All pods on the hosts of one slice, which nobody else uses.
  export ANNOTATIONS="{alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool}"
  device=tpu
elif [[ -n ${GPU:-} ]]; then
  export HOSTS=${HOSTS:?set HOSTS, the number of hosts}
  export NODE_SELECTOR="{cloud.google.com/gke-accelerator: $GPU}"
  export LIMITS="{nvidia.com/gpu: ${GPUS:?set GPUS, the GPUs of a host}}"
  export ANNOTATIONS="{}"
  device=gpu
  [[ $GPU != *h[12]0* ]] || device=hopper
else
  refuse "set TPU and TOPOLOGY, or GPU, GPUS and HOSTS"
fi

# --- Where the run lives: on every host.
workdir=
for flag in "$@"; do
  [[ $flag != --workdir=* ]] || workdir=${flag#--workdir=}
done
case $workdir in
  gs://*) ;;
  /runs/*) [[ -n ${CLAIM:-} ]] || refuse "--workdir=$workdir lies on no volume: set CLAIM" ;;
  *) refuse "--workdir=$workdir is inside the pod and lost with it: use gs://… or, with CLAIM, /runs/…" ;;
esac
export VOLUMES="[]" VOLUME_MOUNTS="[]" LABELS="{}"
if [[ -n ${CLAIM:-} ]]; then
  VOLUMES="[{name: runs, persistentVolumeClaim: {claimName: $CLAIM}}]"
  VOLUME_MOUNTS="[{name: runs, mountPath: /runs}]"
fi
[[ -z ${QUEUE:-} ]] || LABELS="{kueue.x-k8s.io/queue-name: $QUEUE}"

# --- How the processes meet: TPUs know it from GKE, a TrainJob's from its runtime.
variables=()
while IFS="=" read -r name value; do
  variables+=("{ name: $name, value: $(json "$value") }")
done < <(flags_for "$device")
if [[ $kind == jobset && $device != tpu ]]; then
  index="metadata.annotations['batch.kubernetes.io/job-completion-index']"
  variables+=(
    "{ name: JAX_COORDINATOR_ADDRESS, value: $(json "$NAME-host-0-0.$NAME:8476") }"
    "{ name: JAX_NUM_PROCESSES, value: $(json "$HOSTS") }"
    "{ name: JAX_PROCESS_ID, valueFrom: { fieldRef: { fieldPath: $(json "$index") } } }"
  )
fi
arguments=()
for flag in "$@"; do
  arguments+=("$(json "$flag")")
done
ENV=$(list "${variables[@]}")
ARGS=$(list "${arguments[@]}")
export ENV ARGS

manifest=$(python3 -c '
import os, string, sys
print(string.Template(sys.stdin.read()).substitute(os.environ), end="")' <"gke_$kind.yaml")
if $is_dry_run; then
  echo "$manifest"
else
  kubectl apply -f - <<<"$manifest"
fi
