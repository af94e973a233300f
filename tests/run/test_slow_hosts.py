"""Processes that hold up the others are named."""

import pytest

from bert_jax.run.slow_hosts import Pace, slow
from tests.runs import two_processes


def paces(*figures):
    return {i: Pace(f"host{i}", *pace) for i, pace in enumerate(figures)}


@pytest.mark.parametrize(
    "figures",
    [
        [(1.0, 0.9)],  # no one waits for the only process
        [(1.0, 0.0), (1.0, 0.05), (1.1, 0.0)],
        [(1.0, 0.5), (1.0, 0.5), (1.0, 0.6)],  # all wait: no host is at fault
    ],
)
def test_even_processes_are_not_named(figures):
    assert slow(paces(*figures)) == []


def test_the_process_whose_input_is_slow_is_named():
    ((process, said),) = slow(paces((1.0, 0.01), (1.0, 0.02), (1.0, 0.6)))
    assert process == 2
    assert said.startswith(
        "Input of process 2 on host2 takes 0.600 s of a step of 1.000 s, and 0.015"
    )


def test_the_process_whose_steps_are_slow_is_named():
    ((process, said),) = slow(paces((1.0, 0.0), (1.5, 0.0), (1.0, 0.0)))
    assert process == 1
    assert said.startswith("Steps of process 1 on host1 take 1.500 s, and 1.000 s in the others")


PROGRAM = """
from bert_jax.common import processes
from bert_jax.run.slow_hosts import Gathering
from bert_jax.training.sharding import start_distributed
start_distributed()
import jax
gathering = Gathering()
for step in (20, 40, 60):
    gathering.add(step, 1.0, 0.7 * jax.process_index())
    processes.exchange("", "come here")
Gathering().add(60, 1.0, 0.0)  # after a rollback in the same processes
processes.exchange("", "come here")
"""


@pytest.mark.slow
def test_two_processes_gather_their_paces_and_name_the_slow_one_once():
    said = two_processes(PROGRAM)
    assert said.count("Warning: Input of process 1 on ") == 1
