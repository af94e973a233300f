"""What library code prints: each line once, however many processes there are."""

import jax


def say(text: str) -> None:
    """Print a line at once; with several processes, only the first one does."""
    if jax.process_index() == 0:
        print(text, flush=True)
