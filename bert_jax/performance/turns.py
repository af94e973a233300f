"""Processes that take turns at computing, so that they can be compared on a busy machine.

Every side is a process that computes only on request, so that other load on the machine slows all
sides alike. Ratios are taken round by round.
"""

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from bert_jax.common.errors import UserError

Step = Callable[[], float]  # makes one update, waits for it and returns the loss


def answer(make: Callable[[], Step], facts: Callable[[], dict[str, Any]] = dict) -> None:
    """For each number read from stdin, make as many steps and write their seconds and losses.

    When the input ends (the caller closed it or died), the process kills itself and all processes
    that it started, even during a step or a compilation.

    Args:
      make: compiles and returns the step.
      facts: what else to write after each block of steps.
    """
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    step = make()
    while True:
        seconds, losses = [], []
        for _ in range(int(lines.get())):
            start = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - start)
        answer = {"seconds": seconds, "losses": losses, "peak_bytes": process_peak(), **facts()}
        print(json.dumps(answer), flush=True)


class Side:
    """A process that computes in turns with others, and its measurements."""

    def __init__(self, name: str, command: Sequence[str]):
        """Start it in a new session, so that it can end with all processes that it started."""
        self.name = name
        self.rounds: list[list[float]] = []
        self.first_step = float("nan")  # seconds, compiling included
        self.peak_bytes = 0
        self.facts: dict[str, Any] = {}  # the last answer
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # On a GPU the sides share its memory: JAX must not take most of it at once.
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )

    def ask(self, steps: int) -> dict[str, Any]:
        """Run `steps` steps in the process and return its answer.

        Raises:
          UserError: the process has died.
        """
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(steps, file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise UserError(f"the side {self.name!r} ended before its turn; its message is above")
        self.facts = json.loads(line)
        return self.facts

    def warm_up(self) -> None:
        """Run the first steps, which compile."""
        self.first_step = self.ask(3)["seconds"][0]

    def turn(self, steps: int) -> None:
        """Time a block of steps, after one that warms the caches."""
        answered = self.ask(steps + 1)
        self.rounds.append(answered["seconds"][1:])
        self.peak_bytes = answered["peak_bytes"]

    def close(self) -> None:
        """End the process and all that it has started."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has already ended
            self.process.stdin.close()
        self.process.wait()


def process_peak() -> int:
    """The most resident memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
