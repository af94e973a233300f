"""launch/local.sh passes signals on, once to each process, and ends as its processes do."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.launch.scripts import ROOT, write_program

# For python: a process that saves at a signal, or ends as $ENDS says.
PYTHON = """#!/usr/bin/env bash
for name in TERM INT USR1; do
  trap "echo process $JAX_PROCESS_ID got $name; sleep 0.2; exit 75" $name
done
echo "process $JAX_PROCESS_ID of $JAX_NUM_PROCESSES listens at $JAX_COORDINATOR_BIND_ADDRESS"\
  "with $PJRT_NPROC threads"
[[ $JAX_PROCESS_ID != 1 || -z ${ENDS:-} ]] || exit "$ENDS"
[[ $JAX_PROCESS_ID != 0 || ${ENDS:-} != 75 ]] || exit 0
sleep 30 & wait
"""


@pytest.fixture
def start(tmp_path):
    write_program(tmp_path / "python", PYTHON)

    def run(**variables):
        path = f"{tmp_path}:{os.environ['PATH']}"
        return subprocess.Popen(
            # A shell cannot trap what was ignored when it started.
            ["env", "--default-signal", "launch/local.sh", "2", "--config=x"],
            cwd=ROOT,
            env=os.environ | {"PATH": path, "JAX_COORDINATOR_PORT": "1234"} | variables,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


def read_until_both_run(process):
    lines = sorted(process.stdout.readline() for _ in range(2))
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    for number, line in enumerate(lines):
        said = f"process {number} of 2 listens at localhost:1234 with {threads} threads\n"
        assert line == said


@pytest.mark.parametrize(
    ("name", "passed_on"), [("TERM", "TERM"), ("INT", "INT"), ("USR1", "USR1"), ("HUP", "TERM")]
)
def test_a_signal_reaches_every_process_once_and_75_is_returned(start, name, passed_on):
    process = start()
    read_until_both_run(process)
    # To the whole group, as the terminal does at Ctrl-C.
    os.killpg(process.pid, signal.Signals[f"SIG{name}"])
    said, _ = process.communicate(timeout=20)
    assert sorted(said.splitlines()) == [f"process {number} got {passed_on}" for number in range(2)]
    assert process.returncode == 75


def test_one_process_that_was_saved_is_enough_for_75(start):
    process = start(ENDS="75")
    assert process.wait(timeout=20) == 75


@pytest.mark.parametrize("status", [3, 137])
def test_a_process_that_fails_ends_the_others(start, status):
    began = time.monotonic()
    process = start(ENDS=str(status))
    said, _ = process.communicate(timeout=20)  # until nobody holds the pipe: all are gone
    assert process.returncode == status
    assert "got" not in said
    assert time.monotonic() - began < 15


def test_in_a_slurm_job_a_process_keeps_all_gpus_that_it_was_given():
    """JAX would ask SLURM, and take the one GPU numbered SLURM_LOCALID."""
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "a",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "1",
    }
    found = {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}",
        "JAX_NUM_PROCESSES": "1",
        "JAX_PROCESS_ID": "0",
    }
    program = (
        "import jax; from bert_jax.training.sharding import start_distributed; "
        "start_distributed(); print(jax.config.values['jax_cuda_visible_devices'])"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | slurm | found, text=True
    )
    assert said == "all\n"


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]
