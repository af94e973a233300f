"""The rows of processes, and batches beside each other."""

from collections.abc import Sequence

import numpy as np

from bert_jax.stream.batches import RowsOf
from bert_jax.stream.rows import Batch


def part(index: int, count: int) -> RowsOf:
    """The rows of process `index` of `count`."""
    return lambda size: np.arange(size * index // count, size * (index + 1) // count)


def joined(parts: Sequence[Batch]) -> Batch:
    """One batch of the rows of several."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_equal(one: Batch, other: Batch) -> None:
    """Equal in every bit."""
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert np.array_equal(one[name], other[name]), name
