"""How often each id occurs in the training split: `token_counts.npy` of a token store."""

import contextlib
import os
import uuid
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt

from bert_jax.corpus.store.arrays import write_array

FILE = "token_counts.npy"
_TOKENS_AT_ONCE = 1 << 22  # 32 MB as the integers that are counted


def count_tokens(tokens: UInt[np.ndarray, "T"], size: int) -> Int64[np.ndarray, "V"]:
    """How often each of `size` ids occurs."""
    counts = np.zeros(size, np.int64)
    for begin in range(0, len(tokens), _TOKENS_AT_ONCE):
        counts += np.bincount(tokens[begin : begin + _TOKENS_AT_ONCE], minlength=size)
    return counts


def write_counts(directory: Path, counts: Int64[np.ndarray, "V"]) -> None:
    """Writes or replaces the file in the store `directory` in one step."""
    unfinished = directory / f"{FILE}.{uuid.uuid4().hex}.tmp"
    try:
        write_array(unfinished, counts)
        os.replace(unfinished, directory / FILE)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def read_counts(directory: Path, size: int, total: int) -> Int64[np.ndarray, "V"] | None:
    """The counts in the store `directory`; None where they are missing or damaged.

    Args:
      directory: of the store.
      size: of its vocabulary.
      total: what the counts must add up to.
    """
    try:
        counts = np.load(directory / FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    is_whole = counts.shape == (size,) and counts.dtype == np.int64 and counts.sum() == total
    return counts if is_whole else None
