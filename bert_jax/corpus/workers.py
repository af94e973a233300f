"""Runs a function for every part of a corpus, on all cores, with progress."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.corpus.progress import progress

# Runs a function for many arguments; see `Workers.run`.
Engine = Callable[[str, Callable[..., Any], Sequence[tuple], Sequence[int]], list[Any]]


class Workers:
    """Processes that import only what the corpus needs; a single worker is this process itself."""

    def __init__(self, count: int):
        """`count` 0: one process a core. They start in `__enter__`."""
        self.count = count or cores()
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self.count > 1:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                self.count,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def run(
        self, task: str, function: Callable[..., Any], calls: Sequence[tuple], sizes: Sequence[int]
    ) -> list[Any]:
        """`function(*call)` for each call, the results in their order.

        Args:
          task: what the progress calls it.
          function: importable by name; its arguments and result are sent between processes.
          calls: the arguments of each call.
          sizes: bytes that each call processes, for the progress.
        """
        with progress(task, sum(sizes)) as advance:
            if self._pool is None or len(calls) == 1:
                results = []
                for call, size in zip(calls, sizes, strict=True):
                    results.append(function(*call))
                    advance(size)
                return results
            with _hidden_main():
                futures = {
                    self._pool.submit(function, *call): size
                    for call, size in zip(calls, sizes, strict=True)
                }
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                    advance(futures[future])
            except BrokenProcessPool as error:
                raise UserError(
                    "a process that prepares the corpus was killed, as a system short of memory "
                    "does; lower config.corpus.workers and start again: finished parts are kept"
                ) from error
            return [future.result() for future in futures]


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keeps new processes from importing the running command, and with it JAX and TensorFlow."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker() -> None:
    """Makes this worker exit when its parent exits in any way; otherwise it would wait forever."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # every core has a worker already
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
