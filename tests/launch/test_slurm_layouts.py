"""launch/slurm.sbatch and slurm_task.sh on layouts of GPUs that are not on this machine.

srun, scontrol and nvidia-smi are stand-ins here; test_slurm.py runs the scripts on a real SLURM.
"""

import pytest

from tests.launch.scripts import ROOT, run, write_program

# Starts $TASKS processes on each of $HOSTS; $SHOWN is what SLURM puts into CUDA_VISIBLE_DEVICES.
SRUN = """#!/usr/bin/env bash
echo "srun $*" >>"$CALLS"
if [[ -n ${FAIL_FIRST:-} && $(wc -l <"$CALLS") == 1 ]]; then exit 1; fi
while [[ $1 != bash ]]; do shift; done
rank=0
for host in $HOSTS; do
  for ((i = 0; i < TASKS; i++)); do
    case ${SHOWN:-} in
      own) export CUDA_VISIBLE_DEVICES=$i ;;
      ?*) export CUDA_VISIBLE_DEVICES=$SHOWN ;;
    esac
    SLURM_PROCID=$rank SLURM_LOCALID=$i SLURMD_NODENAME=$host "$@" || status=$?
    rank=$((rank + 1))
  done
done
exit "${status:-0}"
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >>"$CALLS"
case "$1 $2" in
  "show hostnames") printf '%s\\n' a b ;;
  "show node") echo "NodeName=a NodeAddr=10.0.0.1 NodeHostName=a.example.org Port=0" ;;
  "show job") echo "JobId=4097 JobName=bert Requeue=1 JobState=${STATE:-RUNNING} Reason=None" ;;
esac
"""
NVIDIA_SMI = """#!/usr/bin/env bash
for word in "$@"; do [[ $word != --id=* ]] || id=${word#--id=}; done
case "$*" in
  *index*) seq 0 "$((GPUS_THERE - 1))" ;;
  *uuid*) ((id < GPUS_THERE)) && echo "GPU-$id" ;;
  *name*) echo "NVIDIA H100 80GB HBM3" ;;
esac
"""
PYTHON = """#!/usr/bin/env bash
echo "process $JAX_PROCESS_ID of $JAX_NUM_PROCESSES at $JAX_COORDINATOR_ADDRESS" \\
  "device ${JAX_LOCAL_DEVICE_IDS-any} $CUDA_DEVICE_MAX_CONNECTIONS: $*"
exit "${ENDS:-0}"
"""


@pytest.fixture
def job(tmp_path):
    """`job(…)` runs launch/slurm.sbatch as SLURM would, on two nodes of four GPUs."""
    for name, text in [("srun", SRUN), ("scontrol", SCONTROL), ("nvidia-smi", NVIDIA_SMI)]:
        write_program(tmp_path / name, text)
    write_program(tmp_path / "sleep", "#!/bin/sh\n")
    python = write_program(tmp_path / "python_of_run", PYTHON)
    calls = tmp_path / "calls"

    def call(expect=0, **variables):
        calls.write_text("")
        variables = {
            "SLURM_JOB_ID": "4097",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_JOB_NODELIST": "a,b",
            "NODES": "2",
            "GPUS": "4",
            "REPO": str(ROOT),
            "PYTHON": str(python),
            "CALLS": str(calls),
            "HOSTS": "a b",
            "TASKS": "4",
            "GPUS_THERE": "4",
        } | variables
        return run("launch/slurm.sbatch", "--config=x", path=tmp_path, expect=expect, **variables)

    call.calls = calls.read_text
    return call


@pytest.mark.parametrize(
    ("shown", "devices"),
    [("0,1,2,3", "0123"), ("", "0123"), ("own", "0000")],
    ids=["all in the variable", "all", "its own one (SLURM 25.05.9)"],
)
def test_each_process_takes_one_gpu(job, shown, devices):
    said = job(SHOWN=shown).splitlines()
    assert said[0] == (
        "Asked for: 2 nodes x 4 GPUs x 4 processes. Found: 2 nodes, 8 GPUs, 8 processes."
    )
    assert said[1:] == [
        f"process {i} of 8 at 10.0.0.1:61441 device {devices[i % 4]} 1: "
        "-m bert_jax.train --distributed --config=x"
        for i in range(8)
    ]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SLURM_JOB_NUM_NODES": "1"}, "NODES=2, but SLURM gave 1: pass --nodes=2"),
        ({"HOSTS": "a"}, "not what was asked for: too few nodes"),
        ({"TASKS": "3"}, "node a has 3 processes on 3 GPUs"),
        ({"GPUS_THERE": "2"}, "node b has 4 processes on 2 GPUs"),
        ({"GPUS_THERE": "0"}, "node b has 4 processes on 0 GPUs"),
        ({"SHOWN": "2"}, "node a has 4 processes on 1 GPUs"),
        ({"GPUS": "0", "TASKS": "1"}, "node a has 1 processes on 1 GPUs"),
        ({"PROCESSES": "2"}, "each process takes one GPU; leave PROCESSES out"),
        ({"REPO": "/"}, "no launch/slurm_task.sh in /"),
    ],
)
def test_what_disagrees_is_refused_before_training(job, variables, message):
    assert message in job(expect=2, **variables)
    assert "--wait" not in job.calls()


def test_the_first_srun_may_fail(job):
    assert "Found: 2 nodes" in job(FAIL_FIRST="1")


def test_75_puts_the_job_back_into_the_queue_and_other_failures_do_not(job):
    job(ENDS="75", expect=75)
    assert job.calls().endswith("scontrol requeue 4097\n")
    job(ENDS="1", expect=1)
    assert "requeue" not in job.calls()


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "TIMEOUT"])
def test_a_job_that_slurm_ends_is_saved_and_not_requeued(job, state):
    said = job(ENDS="75", STATE=state, expect=75)
    assert f"The run was saved. SLURM ends job 4097 ({state})" in said
    assert "The same command continues the run." in said
    assert "requeue" not in job.calls()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("bert.sif", f"apptainer exec --nv --bind {ROOT}:{ROOT},/data bert.sif bash"),
        ("registry#bert:1", f"--container-image=registry#bert:1 --container-mounts={ROOT}:{ROOT}"),
    ],
)
def test_a_container_holds_the_check_and_the_run(job, image, expected):
    job(CONTAINER=image, MOUNTS=f"{ROOT}:{ROOT},/data")
    assert job.calls().count(expected) == 2
