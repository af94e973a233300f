"""The platform is known before JAX starts; TPUs that are not there are not looked for."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from bert_jax.common import memory, platforms

ROOT = Path(__file__).parents[2]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A file system with an empty /dev, JAX with plugins for CUDA and TPU and no choice made."""
    (tmp_path / "dev/vfio").mkdir(parents=True)
    (tmp_path / "dev/vfio/vfio").touch()
    monkeypatch.setattr(platforms, "_has_libtpu", lambda: True)
    monkeypatch.setattr(platforms, "_plugins", lambda: ["xla_cuda12"])
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", None)
    yield tmp_path
    jax.config.update("jax_platforms", before)


@pytest.mark.parametrize(
    ("file", "expected", "named"),
    [
        (None, "cpu", "cpu"),
        ("dev/nvidia0", "gpu", "cuda,cpu"),
        ("dev/nvidiactl", "gpu", "cuda,cpu"),
        ("dev/accel0", "tpu", None),
        ("dev/vfio/0", "tpu", None),
        ("sys/bus/pci/devices/0000:00:05.0/vendor", "tpu", None),
    ],
)
def test_devices_are_found_by_their_files(machine, file, expected, named):
    if file:
        (machine / file).parent.mkdir(parents=True, exist_ok=True)
        (machine / file).write_text("0x1ae0\n")
    assert platforms.expected(machine) == expected
    platforms.hide_missing_tpu(machine)
    assert jax.config.jax_platforms == named


def test_a_choice_that_is_made_stays(machine):
    jax.config.update("jax_platforms", "cuda")
    platforms.hide_missing_tpu(machine)
    assert jax.config.jax_platforms == "cuda"
    assert platforms.expected(machine) == "gpu"


def test_hosts_of_accelerators_keep_their_allocator(monkeypatch):
    assert memory.keep_freed_memory()
    monkeypatch.setattr(platforms, "expected", lambda: "gpu")
    assert not memory.keep_freed_memory()


@pytest.mark.skipif(platforms.has_tpu(), reason="this machine has a TPU")
def test_commands_print_nothing_of_libtpu():
    pytest.importorskip("libtpu")
    code = """
import jax
from bert_jax.common import command_line
command_line.run(lambda: print(jax.devices()[0].platform))
"""
    settings = {name: text for name, text in os.environ.items() if name != "JAX_PLATFORMS"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert run.stdout.strip() in ("cpu", "gpu")
    assert "tpu" not in run.stderr.lower()
