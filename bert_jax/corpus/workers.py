"""Running one function for every part of a corpus, on all cores, with a line or bar of progress."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

from bert_jax.common.errors import UserError

SECONDS_BETWEEN_LINES = 10

# Runs a function for many arguments; see `Workers.run`.
Engine = Callable[[str, Callable[..., Any], Sequence[tuple], Sequence[int]], list[Any]]


class Workers:
    """Processes that import nothing but what the corpus needs; one: this process itself."""

    def __init__(self, count: int):
        """Starts nothing yet; `count` 0 means one process a core."""
        self.count = count or len(os.sched_getaffinity(0))
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
          function: importable by name; its arguments and result travel between processes.
          calls: the arguments of each call.
          sizes: bytes that each call works through, for the progress.
        """
        with _progress(task, sum(sizes)) as advance:
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


@contextlib.contextmanager
def _hidden_main() -> Iterator[None]:
    """Keeps new processes from importing the command that runs, and with it JAX and TensorFlow."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_worker() -> None:
    """Ends this worker when its parent is gone, however that came; else it would wait for ever."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # there is a worker a core already
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _progress(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function that is told of bytes done: a bar on a terminal, now and then a line elsewhere."""
    if sys.stderr.isatty():
        with tqdm(total=total, desc=task, unit="B", unit_scale=True) as bar:
            yield bar.update
        return
    done = 0
    start = said = time.monotonic()

    def advance(size: int) -> None:
        nonlocal done, said
        done += size
        if time.monotonic() - said > SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            print(f"{task}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr, flush=True)

    yield advance
    seconds = time.monotonic() - start
    if seconds > 1:
        print(f"{task}: {total / 1e6:.1f} MB in {seconds:.1f} s", file=sys.stderr, flush=True)
