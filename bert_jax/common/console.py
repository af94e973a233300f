"""Console output of library code: once, not once for each process of a run."""

import sys

import jax


def say(text: str) -> None:
    """Print and flush a line; with several processes, only the first one prints."""
    if jax.process_index() == 0:
        print(text, flush=True)


def begin(task: str) -> None:
    """Say on stderr what the next seconds go to; the standard output holds results alone."""
    print(f"{task} ...", file=sys.stderr, flush=True)
