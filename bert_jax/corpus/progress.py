"""Progress of long work on stderr: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

FIRST_LINE = 0.5  # seconds after the start; shorter work prints nothing
SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress(task: str, total: int) -> Iterator[Callable[[int], None]]:
    """Reports progress while the block runs; yields a function to call with the bytes done.

    Lines are printed at fixed times, whether or not a part was finished since.

    Args:
      task: what the lines call it.
      total: bytes to process; 0: unknown.
    """
    if sys.stderr.isatty():
        with tqdm(total=total or None, desc=task, unit="B", unit_scale=True) as bar:
            yield bar.update
        return
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size

    def say(text: str) -> None:
        print(f"{task}{text}", file=sys.stderr, flush=True)

    def report() -> None:
        wait = FIRST_LINE
        while not finished.wait(wait):
            wait = SECONDS_BETWEEN_LINES
            say(f": {done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else " ...")

    finished = threading.Event()
    reporter = threading.Thread(target=report, daemon=True)
    start = time.monotonic()
    reporter.start()
    try:
        yield advance
    finally:
        finished.set()
        reporter.join()
    seconds = time.monotonic() - start
    if seconds > FIRST_LINE:
        size = f"{total / 1e6:.1f} MB in " if total else ""
        say(f": {size}{seconds:.1f} s")
