#!/usr/bin/env bash
# A SLURM cluster on this machine: two nodes, each with two CPUs and two files that pass for GPUs.
# As root or as an ordinary user.
#
#   source <(tests/launch/slurm_cluster.sh up DIR)   # starts it; srun, sbatch, ... then use it
#   tests/launch/slurm_cluster.sh down DIR           # stops it; DIR keeps the logs
#
# Needs Debian's or Ubuntu's packages: apt-get install slurm-wlm munge
set -euo pipefail

if [[ $# -ne 2 || ! $1 =~ ^(up|down)$ ]]; then
  echo "usage: tests/launch/slurm_cluster.sh up|down DIR" >&2
  exit 2
fi
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
export SLURM_CONF=$dir/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

stop() {
  local name
  for name in slurmctld slurmd-n0 slurmd-n1 munged; do
    if [[ -f $dir/$name.pid ]]; then
      kill "$(cat "$dir/$name.pid")" 2>/dev/null || true
    fi
  done
}

if [[ $action == down ]]; then
  scancel --quiet --user="$(id -un)" 2>/dev/null || true
  stop
  exit
fi

free_ports() {
  python3 -c '
import socket
sockets = [socket.socket() for _ in range(3)]
for each in sockets:
    each.bind(("127.0.0.1", 0))
print(*[each.getsockname()[1] for each in sockets])'
}
read -r controller first second < <(free_ports)
user=$(id -un)
host=$(hostname -s)

cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
# Nothing here needs cgroups or a second machine.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
GresTypes=gpu
NodeName=DEFAULT CPUs=2 Gres=gpu:2 State=UNKNOWN
NodeName=n0 NodeHostname=$host NodeAddr=127.0.0.1 Port=$first
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$second
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=60 State=UP
CONF

echo "NodeName=n[0-1] Name=gpu File=/dev/null,/dev/zero" >"$dir/gres.conf"

trap 'stop; tail -n 3 "$dir"/*.log >&2' ERR
mkdir -p "$dir/state" "$dir/spool-n0" "$dir/spool-n1"
(umask 077 && head -c 64 /dev/urandom >"$dir/munge.key")
# --force: the directory may lie in /tmp, which others may write to.
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
  --pid-file="$dir/munged.pid" --seed-file="$dir/munge.seed" --log-file="$dir/munged.log" >&2
slurmctld >&2
slurmd -N n0 >&2
slurmd -N n1 >&2
for _ in {1..100}; do
  if [[ $(sinfo --noheader --states=idle --format=%D 2>/dev/null) == 2 ]]; then
    echo "export SLURM_CONF=$SLURM_CONF"
    exit
  fi
  sleep 0.3
done
echo "slurm_cluster.sh: the two nodes did not become idle in 30 s; logs in $dir" >&2
stop
exit 1
