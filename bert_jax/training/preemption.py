"""Stopping a run on a signal: save first, then exit with a status that asks to be started again.

SIGTERM is what schedulers send before they reclaim a machine, SIGUSR1 what `sbatch --signal` can
send, SIGINT is Ctrl-C. Any of them to any one process stops the run on all processes, after the
same step.
"""

import contextlib
import os
import signal
import threading
import types
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from bert_jax.common import console

EXIT_STATUS = 75  # EX_TEMPFAIL: the launchers in launch/ start the run again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequests:
    """The signals that ask this process to stop; active inside `with`.

    Outside of the steps there is nothing to save (the export is made again at the next start), and
    a signal ends the only process at once; with several processes it waits for the next step. A
    second Ctrl-C always ends the process.
    """

    def __init__(self):
        self._received: signal.Signals | None = None
        self._is_stepping = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread can take signals
        for number in SIGNALS:
            # The distributed runtime has its own handler of SIGTERM, which tells all processes.
            if number != signal.SIGTERM or not jax.distributed.is_initialized():
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def during_steps(self) -> Iterator[None]:
        """In here a signal waits for the next call of `is_stop`."""
        self._is_stepping = True
        yield
        self._is_stepping = False

    def is_stop(self, step: int) -> bool:
        """Whether the run must be saved after `step` updates and end; the same on all processes.

        Must be called by every process after every step.
        """
        if jax.distributed.is_initialized():
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received is not None

    def end_if_stopped(self) -> None:
        """End the only process if a signal came during the last step; all of it is saved.

        Raises:
          SystemExit: with the status that asks to be started again.
        """
        if self._received is not None and not jax.distributed.is_initialized():
            console.say(f"{self._received.name}: stopped; the same command finishes the run.")
            raise SystemExit(EXIT_STATUS)

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        name = signal.Signals(number).name
        if self._received == number == signal.SIGINT:
            os._exit(128 + number)
        self._received = signal.Signals(number)
        if jax.distributed.is_initialized():
            os.kill(os.getpid(), signal.SIGTERM)
        elif not self._is_stepping:
            console.say(f"{name}: stopped; the same command continues.")
            raise SystemExit(EXIT_STATUS)
        again = "; press Ctrl-C again to quit at once" if number == signal.SIGINT else ""
        console.say(f"{name}: saving after the current step, then stopping{again}.")
