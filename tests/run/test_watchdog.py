"""A run that makes no step ends with all stacks, so that it is started again."""

import subprocess
import sys
import threading
import time

import pytest

from bert_jax.run.goodput import Clock
from bert_jax.run.watchdog import Watchdog
from bert_jax.training.preemption import EXIT_STATUS
from tests.runs import ROOT, two_processes


@pytest.fixture
def watchdog(tmp_path):
    return Watchdog(tmp_path, Clock(), log_every=20, factor=100, minimum=600.0)


def test_the_limit_is_a_multiple_of_the_median_step_and_never_below_the_minimum(watchdog):
    assert watchdog.limit() == 600
    for seconds in (0.1, 0.1, 50.0):  # one slow record is no reason to wait longer
        watchdog.measured(seconds)
    assert watchdog.limit() == 600
    for _ in range(4):
        watchdog.measured(10.0)
    assert watchdog.limit() == 1200


@pytest.mark.parametrize("factor", [0, 100])
def test_steps_and_pauses_are_no_hang_and_the_thread_ends(tmp_path, factor):
    clock = Clock()
    watchdog = Watchdog(tmp_path, clock, log_every=1, factor=factor, minimum=0.3)
    clock.switch("steps")
    before = threading.active_count()
    with watchdog.watching():
        assert threading.active_count() == before + bool(factor)
        for step in range(8):
            time.sleep(0.05)
            watchdog.step(step)
        with clock.spending("evaluation"):
            time.sleep(0.6)
    assert threading.active_count() == before
    assert not list(tmp_path.iterdir())


HANGS = """
import sys, time
from pathlib import Path
from bert_jax.run.goodput import Clock
from bert_jax.run.watchdog import Watchdog
import jax, os
if "JAX_NUM_PROCESSES" in os.environ:
    from bert_jax.training.sharding import start_distributed
    start_distributed()
clock = Clock()
minimum = 1.0 + 9 * jax.process_index()  # process 0 finds the hang first
watchdog = Watchdog(Path(sys.argv[1]), clock, log_every=1, factor=100, minimum=minimum)
clock.switch("input")

def reads_a_disk_that_does_not_answer():
    time.sleep(60)

with watchdog.watching():
    watchdog.step(7)
    reads_a_disk_that_does_not_answer()
"""


def assert_told(path, text, process):
    assert f"process {process} on " in text
    assert "after step 7" in text
    assert "in reads_a_disk_that_does_not_answer" in text
    assert "in reads_a_disk_that_does_not_answer" in path.read_text()


def test_a_hang_writes_all_stacks_and_asks_to_be_started_again(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", HANGS, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert ended.returncode == EXIT_STATUS
    assert_told(tmp_path / "hang-0.txt", ended.stderr, 0)


@pytest.mark.slow
def test_every_process_writes_its_stacks(tmp_path):
    said = two_processes(HANGS, tmp_path, expect=EXIT_STATUS)
    for process in range(2):
        assert_told(tmp_path / f"hang-{process}.txt", said, process)
