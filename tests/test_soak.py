"""A run survives SIGKILL in each of its stages, with the bytes of an unbroken one."""

import subprocess
import sys

import pytest

from tests.runs import ROOT


@pytest.mark.slow
def test_a_kill_in_each_stage_changes_no_byte():
    command = [sys.executable, "benchmarks/soak.py", "--kills=6"]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "survived 6 of 6 kills" in run.stdout
