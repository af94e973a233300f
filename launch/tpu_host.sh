#!/usr/bin/env bash
# What launch/tpu_vm.sh does on one host of a slice. The run's log and process id are in ~/run.
set -euo pipefail
mkdir -p ~/run
cd "$(dirname "$0")/.."
# shellcheck source=launch/flags.sh
source launch/flags.sh
command=$1
shift

is_running() {
  [[ -f ~/run/pid ]] && kill -0 "$(cat ~/run/pid)" 2>/dev/null
}

case $command in
  install)
    # The VMs' own Python may be older than 3.11; uv brings one.
    python3 -m pip install --quiet --user uv
    PATH=~/.local/bin:$PATH
    uv venv --quiet --clear --python 3.12 ~/venv
    uv pip install --quiet --python ~/venv/bin/python --editable '.[tpu,gcs]'
    ;;

  write-token)
    mkdir -p "$2"
    echo "$1" >"$2/.launch-token"
    ;;
  read-token)
    [[ $(cat "$2/.launch-token" 2>/dev/null) == "$1" ]] || {
      echo "host $(hostname) does not see what the first host wrote in $2" >&2
      exit 1
    }
    ;;

  start)
    if is_running; then
      echo "host $(hostname) trains already: launch/tpu_vm.sh stop first" >&2
      exit 1
    fi
    rm -f ~/run/is-stopping ~/run/status
    # In a session of its own, which the end of the ssh connection does not end.
    setsid nohup bash launch/tpu_host.sh train "$@" >>~/run/log 2>&1 </dev/null &
    echo $! >~/run/pid
    echo "host $(hostname) trains; log in ~/run/log"
    ;;
  train) # until it ends; a run that was saved after a signal (75) starts again
    export_flags_for tpu
    trap : TERM
    while true; do
      status=0
      ~/venv/bin/python -m bert_jax.train --distributed "$@" || status=$?
      [[ $status == 75 && ! -e ~/run/is-stopping ]] || break
      echo "The run was saved after a signal; it goes on."
      sleep 5
    done
    echo "$status" >~/run/status
    ;;
  stop) # SIGTERM to the whole session's group: the run is saved
    touch ~/run/is-stopping
    if is_running; then
      kill -TERM -- "-$(cat ~/run/pid)"
    fi
    ;;
  status)
    if is_running; then
      echo "host $(hostname) trains: $(tail -n 1 ~/run/log)"
    elif [[ -f ~/run/status ]]; then
      echo "host $(hostname): ended with status $(cat ~/run/status)"
    else
      echo "host $(hostname): no run, or it was killed"
    fi
    ;;
esac
