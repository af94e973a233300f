"""Reading at many places of many memory maps at once."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32, Int64, Integer


def windows(
    arrays: Sequence[Integer[np.ndarray, "_"]],
    shard: Int64[np.ndarray, "B"],
    start: Int64[np.ndarray, "B"],
    length: int,
) -> Int32[np.ndarray, "B {length}"]:
    """The tokens of `arrays[shard[i]]` from start[i] on; those of a shard stand in a circle.

    Copies row by row: an index for each token would cost more, and so would a pass over the rows
    for each shard when there are many.
    """
    result = np.empty((len(start), length), np.int32)
    for row, (index, begin) in enumerate(zip(shard.tolist(), start.tolist(), strict=True)):
        array = arrays[index]
        if 0 <= begin <= len(array) - length:
            result[row] = array[begin : begin + length]
        else:
            result[row] = array.take(np.arange(begin, begin + length), mode="wrap")
    return result


def take(
    arrays: Sequence[Integer[np.ndarray, "_"]],
    shard: Int64[np.ndarray, "B"],
    index: Int64[np.ndarray, "B"],
) -> Int64[np.ndarray, "B"]:
    """`arrays[shard[i]][index[i]]` for every i."""
    result = np.empty(len(index), np.int64)
    for i, rows in _by_shard(len(arrays), shard):
        result[rows] = arrays[i][index[rows]]
    return result


def search(
    arrays: Sequence[Int64[np.ndarray, "_"]],
    shard: Int64[np.ndarray, "B"],
    value: Int64[np.ndarray, "B"],
) -> Int64[np.ndarray, "B"]:
    """Index of the first entry of the sorted `arrays[shard[i]]` that is >= value[i]."""
    result = np.empty(len(value), np.int64)
    for i, rows in _by_shard(len(arrays), shard):
        result[rows] = np.searchsorted(arrays[i], value[rows])
    return result


def _by_shard(
    count: int, shard: Int64[np.ndarray, "B"]
) -> Iterator[tuple[int, slice | Int64[np.ndarray, "_"]]]:
    """Every shard that occurs, with its rows."""
    if count == 1 and len(shard):
        yield 0, slice(None)
        return
    order = np.argsort(shard, kind="stable")
    sorted_shard = shard[order]
    borders = np.flatnonzero(np.diff(sorted_shard, prepend=-1, append=-1))
    for begin, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        yield int(sorted_shard[begin]), order[begin:end]
