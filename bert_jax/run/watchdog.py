"""Ends a run that hangs, so that the scheduler starts it again, and says where it hung."""

import contextlib
import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import jax

from bert_jax.common import processes
from bert_jax.common.bucket import home
from bert_jax.run.goodput import Clock
from bert_jax.training.preemption import EXIT_STATUS

WATCHED = ("steps", "input")  # of goodput.KINDS; compiling, evaluating and saving take their time
MEASURED = 100  # records whose steps make up the median
_FOUND = "bert_jax/hang/found"  # published by the first process that finds a hang
_WRITTEN = "bert_jax/hang/written/"  # and by each one that wrote its stacks
_PATIENCE = 30.0  # seconds that process 0 waits for the others' stacks


class Watchdog:
    """Notes the steps; a thread of its own ends the process if there is none for too long."""

    def __init__(self, directory: Path, clock: Clock, log_every: int, factor: int, minimum: float):
        """Watches nothing yet.

        Args:
          directory: of the run; the stacks are written there.
          clock: what the process spends its time on.
          log_every: steps that the host may be ahead of the device.
          factor: median steps without a new one that are a hang, besides these; 0: never.
          minimum: seconds without a step that are no hang.
        """
        self._directory = directory
        self._clock = clock
        self._steps = log_every + factor
        self._is_on = factor > 0
        self._minimum = minimum
        self._seconds: deque[float] = deque(maxlen=MEASURED)
        self._last = 0, time.monotonic()

    def step(self, step: int) -> None:
        """Note that `step` updates were started."""
        self._last = step, time.monotonic()

    def measured(self, seconds: float) -> None:
        """Note the seconds of a step, a mean over some."""
        self._seconds.append(seconds)

    def limit(self) -> float:
        """Seconds without a step that are a hang."""
        median = statistics.median(self._seconds) if self._seconds else 0.0
        return max(self._minimum, self._steps * median)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block."""
        if not self._is_on:
            yield
            return
        stopped = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stopped,), daemon=True)
        self.step(0)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def _watch(self, stopped: threading.Event) -> None:
        every = min(10.0, self._minimum / 10)
        while not stopped.wait(every):
            if self._clock.kind not in WATCHED:
                self.step(self._last[0])  # the time starts again after it
            silent = time.monotonic() - self._last[1]
            if silent > self.limit():
                with contextlib.suppress(Exception):  # another process was the first
                    processes.publish(_FOUND, processes.me())
            elif not _is_published(_FOUND):
                continue
            self._write_stacks(silent)
            _end_together()

    def _write_stacks(self, silent: float) -> None:
        line = (
            f"error: {processes.me()} has made no step for {silent:.0f} s after step "
            f"{self._last[0]} (allowed: {self.limit():.0f} s): the run hangs. The stacks of all "
            f"threads follow; it ends with status {EXIT_STATUS}, to be started again.\n"
        )
        sys.stderr.write(line)
        sys.stderr.flush()
        path = self._directory / f"hang-{jax.process_index()}.txt"
        with contextlib.suppress(OSError), path.open("w") as file:
            file.write(line)
            file.flush()
            faulthandler.dump_traceback(file)
            sys.stderr.write(path.read_text().partition("\n")[2])
            sys.stderr.flush()
            if not isinstance(place := home(self._directory), Path):
                (place / path.name).write_text(path.read_text())


def _end_together() -> None:
    """End the process; process 0, without which the runtime kills the others, as the last."""
    with contextlib.suppress(Exception):
        processes.publish(f"{_WRITTEN}{jax.process_index()}", "")
    others = range(1, jax.process_count()) if jax.process_index() == 0 else ()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and not all(_is_published(f"{_WRITTEN}{i}") for i in others):
        time.sleep(0.5)
    os._exit(EXIT_STATUS)


def _is_published(key: str) -> bool:
    with contextlib.suppress(Exception):  # it may be the coordinator that hangs
        return processes.read(key) is not None
    return False
