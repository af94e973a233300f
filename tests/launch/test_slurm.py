"""launch/slurm.sbatch on a real SLURM of two nodes on this machine.

Slow, and skipped where SLURM is not installed. As root, or as anyone who may install packages:

    apt-get install -y slurm-wlm munge && pytest -n 0 -m slow tests/launch/test_slurm.py
"""

import os
import re
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from bert_jax.run.workdir import CHECKPOINTS
from tests.launch.scripts import ROOT, write_program
from tests.runs import command, records

PROGRAMS = ("munged", "slurmctld", "slurmd")
SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
MISSING = [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"no {', '.join(MISSING)}: apt-get install slurm-wlm munge"
    ),
]


ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


class Cluster:
    """Jobs on the two nodes; their logs are in `directory`."""

    def __init__(self, directory):
        self.directory = directory
        one_device = [f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f]
        self.env = os.environ | {
            "SLURM_CONF": str(directory / "slurm.conf"),
            "XLA_FLAGS": " ".join(one_device),
        }

    def say(self, *command):
        for _ in range(5):  # on a busy machine the controller closes a connection now and then
            run = subprocess.run(
                command,
                cwd=self.directory,
                env=self.env,
                capture_output=True,
                text=True,
                check=False,
            )
            if run.returncode == 0:
                return run.stdout
            time.sleep(0.5)
        raise AssertionError(f"{command}: {run.returncode} {run.stdout} {run.stderr}")

    def submit(self, *flags, script=ROOT / "launch" / "slurm.sbatch", **variables):
        before = self.env
        self.env = before | {"PYTHON": sys.executable} | variables
        said = self.say(script, *map(str, flags))
        self.env = before
        return re.search(r"\d+", said)[0]

    def train(self, corpus, workdir, nodes):
        flags = command(corpus, f"--workdir={workdir}", launcher=())
        return self.submit(*flags, NODES=str(nodes))

    def log(self, job):
        path = self.directory / f"bert-{job}.log"
        return path.read_text() if path.exists() else ""

    def state(self, job):
        return re.search(r"JobState=(\w+)", self.say("scontrol", "show", "job", job))[1]

    def wait(self, job, condition, seconds=600):
        deadline = time.monotonic() + seconds
        while not condition():
            state = self.state(job)
            assert state not in ENDED or condition(), f"{state}: {self.log(job)}"
            assert time.monotonic() < deadline, self.log(job)
            time.sleep(0.3)

    def wait_for_state(self, job, state):
        self.wait(job, lambda: self.state(job) == state)

    def wait_for_checkpoint(self, job, workdir):
        self.wait(job, (workdir / CHECKPOINTS / "5").exists)
        assert not (workdir / CHECKPOINTS / "20").exists()

    def start_again(self, job):
        """Without the two minutes that SLURM lets a requeued job wait, and which are not needed.

        It refuses a job only in the second in which it took back the permission to run it.
        """
        self.wait(job, lambda: "Restarts=1" in self.say("scontrol", "show", "job", job))
        self.wait_for_state(job, "PENDING")
        self.say("scontrol", "update", f"JobId={job}", "StartTime=now+3")
        self.wait_for_state(job, "COMPLETED")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    directory = tmp_path_factory.mktemp("slurm")
    script = ROOT / "tests" / "launch" / "slurm_cluster.sh"
    subprocess.run([script, "up", directory], check=True)
    yield Cluster(directory)
    subprocess.run([script, "down", directory], check=True)


@pytest.fixture(scope="module")
def unbroken(cluster, corpus, tmp_path_factory):
    """A run on two nodes in one go."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    job = cluster.train(corpus, workdir, nodes=2)
    cluster.wait_for_state(job, "COMPLETED")
    found = "Asked for: 2 nodes x 0 GPUs x 1 processes. Found: 2 nodes, 0 GPUs, 2 processes."
    assert found in cluster.log(job)
    return workdir


def whole_state(workdir):
    """Step, parameters and optimizer state of the last checkpoint, which two processes saved."""
    path = (workdir / CHECKPOINTS / "20" / "default").absolute()
    reader = ocp.PyTreeCheckpointer()
    tree = reader.metadata(path).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    state = reader.restore(path, restore_args=as_numpy)
    return {jax.tree_util.keystr(name): leaf for name, leaf in jax.tree.leaves_with_path(state)}


def assert_ended_as(unbroken, workdir):
    assert records(workdir) == records(unbroken)
    found, expected = whole_state(workdir), whole_state(unbroken)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        assert found[name].tobytes() == leaf.tobytes(), name


def test_a_job_that_slurm_kills_and_requeues_ends_in_the_same_bytes(
    cluster, corpus, unbroken, tmp_path
):
    job = cluster.train(corpus, tmp_path / "run", nodes=2)
    cluster.wait_for_checkpoint(job, tmp_path / "run")
    cluster.say("scontrol", "requeue", job)
    cluster.start_again(job)
    assert "Continuing at step" in cluster.log(job)
    assert_ended_as(unbroken, tmp_path / "run")


def test_a_job_that_gets_sigterm_saves_requeues_itself_and_ends_in_the_same_bytes(
    cluster, corpus, unbroken, tmp_path
):
    job = cluster.train(corpus, tmp_path / "run", nodes=2)
    cluster.wait_for_checkpoint(job, tmp_path / "run")
    cluster.say("scancel", "--signal=TERM", job)
    cluster.start_again(job)
    assert "goes back into the queue" in cluster.log(job)
    assert_ended_as(unbroken, tmp_path / "run")


def test_a_run_goes_on_with_the_same_batches_on_fewer_nodes(cluster, corpus, unbroken, tmp_path):
    workdir = tmp_path / "run"
    job = cluster.train(corpus, workdir, nodes=2)
    cluster.wait_for_checkpoint(job, workdir)
    cluster.say("scancel", job)
    cluster.wait_for_state(job, "CANCELLED")
    assert "goes back into the queue" not in cluster.log(job)
    assert "Restarts=0" in cluster.say("scontrol", "show", "job", job)
    job = cluster.train(corpus, workdir, nodes=1)
    cluster.wait_for_state(job, "COMPLETED")
    assert re.search(r"Continuing at step \d+ of 20", cluster.log(job))
    found, expected = records(workdir), records(unbroken)
    assert [(r["step"], r["split"]) for r in found] == [(r["step"], r["split"]) for r in expected]
    for a, b in zip(found, expected, strict=True):
        # One device adds up what two did, in another order (1e-7 here). Another batch would differ
        # by 1e-3 in the loss, and by 1e-2 in that of next sentences.
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
        np.testing.assert_allclose(a["nsp_loss"], b["nsp_loss"], rtol=1e-5)


STAND_IN = """#!/usr/bin/env bash
# For the train command: exits with 75 at SIGTERM in its first life, ends well in its second.
echo "process $JAX_PROCESS_ID of $JAX_NUM_PROCESSES life ${SLURM_RESTART_COUNT:-0}"
[[ ${SLURM_RESTART_COUNT:-0} == 0 ]] || exit 0
trap 'echo "process $JAX_PROCESS_ID was signalled"; is_signalled=true' TERM
until ${is_signalled:-false}; do sleep 0.1; done
sleep "$JAX_PROCESS_ID"
exit 75
"""


def test_every_process_gets_the_signal_and_exit_75_requeues(cluster, tmp_path):
    python = write_program(tmp_path / "python", STAND_IN)
    job = cluster.submit("--config=x", NODES="2", PYTHON=str(python))
    cluster.wait(job, lambda: cluster.log(job).count("life 0") == 2)
    cluster.say("scancel", "--signal=TERM", job)
    cluster.start_again(job)
    for process in range(2):
        assert cluster.log(job).count(f"process {process} was signalled") == 1
        assert f"process {process} of 2 life 1" in cluster.log(job)


NVIDIA_SMI = """#!/usr/bin/env bash
for word in "$@"; do [[ $word != --id=* ]] || id=${word#--id=}; done
case "$*" in
  *index*) printf '%s\\n' 0 1 ;;
  *uuid*) echo "GPU-$id" ;;
  *name*) echo "NVIDIA H100 80GB HBM3" ;;
esac
"""


def test_each_process_takes_a_gpu_of_its_own(cluster, tmp_path):
    """SLURM counts out the GPUs, two files here, and says which a process may use."""
    write_program(tmp_path / "nvidia-smi", NVIDIA_SMI)
    say = 'echo "process $JAX_PROCESS_ID sees $CUDA_VISIBLE_DEVICES takes $JAX_LOCAL_DEVICE_IDS"'
    python = write_program(tmp_path / "python", f"#!/usr/bin/env bash\n{say}\n")
    path = f"{tmp_path}:{os.environ['PATH']}"
    job = cluster.submit("--config=x", NODES="2", GPUS="2", PYTHON=str(python), PATH=path)
    cluster.wait_for_state(job, "COMPLETED")
    assert "Found: 2 nodes, 4 GPUs, 4 processes." in cluster.log(job)
    taken = re.findall(r"process \d sees (\S+) takes (\d)", cluster.log(job))
    assert sorted(taken) == [("0,1", "0"), ("0,1", "0"), ("0,1", "1"), ("0,1", "1")]


def test_a_job_with_fewer_nodes_than_asked_for_is_refused(cluster):
    """As with `sbatch launch/slurm.sbatch` that forgets --nodes."""
    script = str(ROOT / "launch" / "slurm.sbatch")
    cluster.env |= {"NODES": "2", "REPO": str(ROOT)}
    job = re.search(r"\d+", cluster.say("sbatch", script, "--config=x"))[0]
    cluster.wait_for_state(job, "FAILED")
    assert "NODES=2, but SLURM gave 1" in cluster.log(job)
