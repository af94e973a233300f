"""launch/flags.sh: every row of the table lets JAX, or the compiler for TPUs, start."""

import os
import subprocess
import sys

import pytest

from tests.launch.scripts import ROOT, run

START = "import jax; print(jax.jit(lambda x: x + 1)(1))"
COMPILER = """
from bert_jax.performance import topology
print(len(topology.devices(topology.Slice.parse("v5e:2x2"))))
"""


def flags(kind, **variables):
    lines = run("launch/flags.sh", kind, **variables).splitlines()
    return dict(line.split("=", 1) for line in lines)


def start(program, variables):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_jax_starts_with_the_flags_and_refuses_others():
    pytest.importorskip("libtpu")
    tpu = flags("tpu")["LIBTPU_INIT_ARGS"]
    started = {
        # All variables are read, and their values checked, by a process on CPUs as well.
        "cpu and gpus": start(START, flags("cpu") | flags("hopper")),
        "tpu": start(COMPILER, {"LIBTPU_INIT_ARGS": tpu}),
        "removed flag": start(COMPILER, {"LIBTPU_INIT_ARGS": f"{tpu} --xla_tpu_no_such=true"}),
    }
    said = {name: process.communicate(timeout=100) for name, process in started.items()}
    assert said["cpu and gpus"][0] == "2\n", said
    assert said["tpu"][0] == "4\n", said
    assert "xla_tpu_no_such" in said["removed flag"][1]
    assert started["removed flag"].returncode != 0


def test_a_kind_of_gpu_adds_to_the_flags_of_all_gpus():
    assert flags("gpu").items() < flags("hopper").items()


def test_each_kind_joins_the_flags_of_one_variable():
    assert flags("tpu")["LIBTPU_INIT_ARGS"].count("--xla_tpu") == 2


def test_a_variable_that_the_user_set_stays():
    script = "source launch/flags.sh; export_flags_for gpu; env"
    said = run("bash", "-c", script, JAX_OPTIMIZATION_LEVEL="O0").splitlines()
    assert "JAX_OPTIMIZATION_LEVEL=O0" in said
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION=0.9" in said


def test_an_unknown_kind_is_refused():
    assert "no kind of device named abacus" in run("launch/flags.sh", "abacus", expect=2)
