"""Console output of library code: once, not once for each process of a run."""

import jax


def say(text: str) -> None:
    """Print and flush a line; with several processes, only the first one prints."""
    if jax.process_index() == 0:
        print(text, flush=True)
