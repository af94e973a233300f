#!/usr/bin/env bash
# Train on a slice of Cloud TPUs through its VMs, with gcloud.
#
#   export NAME=bert ZONE=us-west4-a TYPE=v5litepod-16 RUNTIME=v2-alpha-tpuv5-lite
#   launch/tpu_vm.sh up        ask for the slice, or reuse it; copy this repository, install it
#   launch/tpu_vm.sh start --config=FILE[:arg] --workdir=gs://BUCKET/DIR ...    on every host
#   launch/tpu_vm.sh logs | status | stop | delete
#
# --dry-run as the first argument prints the commands only. SPOT=1: preemptible chips. The project
# is gcloud's (CLOUDSDK_CORE_PROJECT). The hosts of a slice need one workdir: gs://, or a directory
# of a file system that all of them have mounted, which start checks.
set -euo pipefail

usage="usage: NAME=… ZONE=… [TYPE=… RUNTIME=…] launch/tpu_vm.sh [--dry-run] up|start|logs|status|stop|delete [FLAGS]"
NAME=${NAME:?$usage} ZONE=${ZONE:?$usage}

refuse() {
  echo "tpu_vm.sh: $1" >&2
  exit 2
}
is_dry_run=false
if [[ ${1:-} == --dry-run ]]; then
  is_dry_run=true
  shift
fi

# Words as one types them into a shell.
quoted() {
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[-A-Za-z0-9_./:=@]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line:1}"
}
# gcloud, or with --dry-run what would be typed.
call() {
  if $is_dry_run; then
    quoted gcloud "$@"
  else
    gcloud "$@"
  fi
}
on_hosts() { # worker number or all, command
  call compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" --command="$2"
}
state() {
  gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" \
    --format='value(state.state)' 2>/dev/null || true
}

up() {
  local found=
  $is_dry_run || found=$(state)
  if [[ -z $found ]]; then
    call compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
      --accelerator-type="${TYPE:?$usage}" --runtime-version="${RUNTIME:?$usage}" ${SPOT:+--spot}
  else
    echo "$NAME is there already ($found)."
  fi
  until $is_dry_run || [[ $found == ACTIVE ]]; do
    found=$(state)
    case $found in
      ACTIVE) ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING)
        refuse "$NAME is $found: launch/tpu_vm.sh delete, then up again"
        ;;
      *)
        echo "Waiting for the slice: $NAME is ${found:-not listed yet}."
        sleep "${POLL_SECONDS:-30}"
        ;;
    esac
  done

  local repository archive
  repository=$(cd "$(dirname "$0")/.." && pwd)
  archive=${TMPDIR:-/tmp}/bert_jax.tar.gz
  $is_dry_run || tar -C "$repository" --exclude=__pycache__ -czf "$archive" \
    bert_jax configs launch pyproject.toml README.md LICENSE
  call compute tpus tpu-vm scp "$archive" "$NAME:bert_jax.tar.gz" --zone="$ZONE" --worker=all
  on_hosts all "rm -rf bert_jax && mkdir bert_jax && tar -xzf bert_jax.tar.gz -C bert_jax && bash bert_jax/launch/tpu_host.sh install"
}

start() {
  local flag workdir=
  for flag in "$@"; do
    [[ $flag != --workdir=* ]] || workdir=${flag#--workdir=}
  done
  case $workdir in
    gs://*) ;;
    /*) # what the first host writes, all must read
      local token=$RANDOM$RANDOM
      $is_dry_run && token=TOKEN
      on_hosts 0 "bash bert_jax/launch/tpu_host.sh write-token $token $(quoted "$workdir")"
      on_hosts all "bash bert_jax/launch/tpu_host.sh read-token $token $(quoted "$workdir")" ||
        refuse "not every host sees --workdir=$workdir: use gs://, or mount one file system on all"
      ;;
    *) refuse "--workdir=$workdir: the hosts of a slice need gs://… or a shared directory from / on" ;;
  esac
  on_hosts all "bash bert_jax/launch/tpu_host.sh start $(quoted "$@")"
}

command=${1:-}
shift || true
case $command in
  up) up ;;
  start) start "$@" ;;
  logs) on_hosts 0 "tail -n 50 -F run/log" ;;
  status)
    call compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='value(state.state)'
    on_hosts all "bash bert_jax/launch/tpu_host.sh status"
    ;;
  stop) on_hosts all "bash bert_jax/launch/tpu_host.sh stop" ;;
  delete) call compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet ;;
  *) refuse "$usage" ;;
esac
