"""Which of a run's processes hold up the others: their figures, gathered where they are logged."""

import itertools
import json
import socket
import statistics
from collections.abc import Mapping
from typing import NamedTuple

import jax

from bert_jax.common import console, processes

INPUT_SHARE = 0.1  # of a step: a process that waits longer for its input holds up the others
SLOWER = 1.2  # times the median step
_numbers = itertools.count()  # of the gatherings: all processes begin them in the same order


class Pace(NamedTuple):
    """Seconds of a step of one process, and those in which it waited for its input."""

    host: str
    step: float
    input: float


class Gathering:
    """Exchanges the paces of all processes without waiting for any of them."""

    def __init__(self):
        """Nothing is gathered yet."""
        self._number = next(_numbers)  # after a rollback, the same steps are published again
        self._last: int | None = None  # the step of the record before
        self._said: set[tuple[int, str]] = set()

    def add(self, step: int, step_seconds: float, input_seconds: float) -> None:
        """Publish the pace of this process; process 0 names who was slow at the record before.

        Args:
          step: of the record, the same in all processes.
          step_seconds: of one step.
          input_seconds: of these, waiting for the batch.
        """
        if jax.process_count() == 1:
            return
        mine = Pace(socket.gethostname(), step_seconds, input_seconds)
        processes.publish(self._key(step) + str(jax.process_index()), json.dumps(mine))
        if jax.process_index() == 0 and self._last is not None:
            found = processes.take_all(self._key(self._last))
            for process, what in slow({int(i): Pace(*json.loads(p)) for i, p in found.items()}):
                kind = what.split()[0]
                if (process, kind) not in self._said:
                    console.say(f"Warning: {what}")
                    self._said.add((process, kind))
        self._last = step

    def _key(self, step: int) -> str:
        return f"bert_jax/pace/{self._number}/{step}/"


def slow(paces: Mapping[int, Pace]) -> list[tuple[int, str]]:
    """The processes that hold up the others, and a sentence on each.

    Args:
      paces: by process.
    """
    found = []
    for process, pace in paces.items():
        others = [other for index, other in paces.items() if index != process]
        if not others:
            break
        name = f"process {process} on {pace.host}"
        input_of_others = statistics.median(other.input for other in others)
        step_of_others = statistics.median(other.step for other in others)
        if pace.input > max(INPUT_SHARE * pace.step, 2 * input_of_others):
            found.append(
                (
                    process,
                    f"Input of {name} takes {pace.input:.3f} s of a step of {pace.step:.3f} s, and "
                    f"{input_of_others:.3f} s in the others, which wait for it: look at its disk, "
                    "its processors and what else runs there",
                )
            )
        elif pace.step > SLOWER * step_of_others:
            found.append(
                (
                    process,
                    f"Steps of {name} take {pace.step:.3f} s, and {step_of_others:.3f} s in the "
                    "others: look at its devices' clocks and temperature, and what else runs there",
                )
            )
    return found
