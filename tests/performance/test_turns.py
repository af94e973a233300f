"""Sides of a comparison: processes that compute in turns, and leave nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bert_jax.common.errors import UserError
from bert_jax.performance import turns

ROOT = Path(__file__).parents[2]

# A side that starts a process of its own and then computes without an end, as a compiler might.
SPINNING = """
import subprocess
from bert_jax.performance import turns
def make():
    print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
    while True:
        pass
turns.answer(make)
"""
PARENT = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from bert_jax.performance import turns
side = turns.Side("spinning", [sys.executable, "-c", {SPINNING!r}])
print(side.process.pid, int(side.process.stdout.readline()), flush=True)
side.ask(1)
"""
COUNTING = """
import itertools
from bert_jax.performance import turns
count = itertools.count()
turns.answer(lambda: lambda: float(next(count)))
"""


def has_ended(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_side_and_all_it_has_started_end_with_the_parent(number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    assert not any(has_ended(pid) for pid in children)
    parent.send_signal(number)
    try:
        parent.wait(timeout=60)
    finally:
        parent.kill()
    deadline = time.monotonic() + 60
    while not all(has_ended(pid) for pid in children):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.05)


def test_sides_compute_in_turns_and_ratios_are_taken_by_round():
    side = turns.Side("counting", [sys.executable, "-c", COUNTING])
    assert side.ask(2)["losses"] == [0.0, 1.0]
    assert side.ask(3)["losses"] == [2.0, 3.0, 4.0]
    side.turn(4)
    assert [len(block) for block in side.rounds] == [4]  # and one to warm up
    side.close()
    assert has_ended(side.process.pid)


def test_a_side_that_fails_is_named():
    side = turns.Side("broken", [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(UserError, match="'broken' ended before its turn"):
        side.ask(1)
    side.close()


def test_a_side_that_ends_between_its_turns_is_closed_without_an_error():
    side = turns.Side("ending", [sys.executable, "-c", "import sys; sys.stdin.readline()"])
    print(1, file=side.process.stdin, flush=True)
    side.process.wait()
    print(1, file=side.process.stdin)  # waits in the buffer for the end
    side.close()
    assert has_ended(side.process.pid)
