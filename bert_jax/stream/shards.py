"""Reading at many places of many memory maps at once."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int, Int32, Int64, Integer


def take(
    arrays: Sequence[Integer[np.ndarray, "_"]],
    shard: Int64[np.ndarray, "B"],
    index: Int64[np.ndarray, "B"],
) -> Int64[np.ndarray, "B"]:
    """`arrays[shard[i]][index[i]]` for every i."""
    result = np.empty(len(index), np.int64)
    for array, rows in _by_shard(arrays, shard):
        result[rows] = array[index[rows]]
    return result


def search(
    arrays: Sequence[Int64[np.ndarray, "_"]],
    shard: Int64[np.ndarray, "B"],
    value: Int64[np.ndarray, "B"],
) -> Int64[np.ndarray, "B"]:
    """Index of the first entry of the sorted `arrays[shard[i]]` that is >= value[i]."""
    result = np.empty(len(value), np.int64)
    for array, rows in _by_shard(arrays, shard):
        result[rows] = np.searchsorted(array, value[rows])
    return result


def copy_spans(
    arrays: Sequence[Integer[np.ndarray, "_"]],
    shard: Int64[np.ndarray, "N"],
    start: Int64[np.ndarray, "N"],
    length: Int64[np.ndarray, "N"],
    target: Int32[np.ndarray, "B L"],
    at: Int64[np.ndarray, "N"],
) -> None:
    """Copies `arrays[shard[i]][start[i]:start[i] + length[i]]` to place at[i] of flat `target`.

    A copy a span costs less than an index a token, whatever the number of shards.
    """
    flat = target.reshape(-1)
    spans = zip(shard.tolist(), start.tolist(), length.tolist(), at.tolist(), strict=True)
    for array, begin, size, place in spans:
        flat[place : place + size] = arrays[array][begin : begin + size]


def _by_shard(
    arrays: Sequence[np.ndarray], shard: Int[np.ndarray, "B"]
) -> Iterator[tuple[np.ndarray, np.ndarray | slice]]:
    if len(arrays) == 1:
        yield arrays[0], slice(None)
        return
    for index in np.unique(shard).tolist():
        yield arrays[index], np.flatnonzero(shard == index)
