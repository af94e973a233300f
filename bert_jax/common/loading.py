"""A line on the terminal while the imports of a command take seconds."""

import sys

TEXT = "Importing JAX ..."


def show() -> None:
    """Print it if this process is a command, `python -m bert_jax.<name>`, on a terminal."""
    is_command = sys.argv[:1] == ["-m"]  # what Python has there until it has found the module
    if is_command and sys.stderr.isatty():
        sys.stderr.write(TEXT)
        sys.stderr.flush()


def clear() -> None:
    """Take the line away."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
        sys.stderr.flush()
