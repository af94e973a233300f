"""Reading at many places of many memory maps at once."""

import itertools
from collections.abc import Sequence

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


# The rows of each shard that occurs, found once for several reads.
Groups = list[tuple[int, slice | Int64[np.ndarray, "_"]]]


def by_shard(count: int, shard: Int64[np.ndarray, "B"]) -> Groups:
    """Which rows are in which of `count` shards."""
    if count == 1:
        return [(0, slice(None))]
    order = np.argsort(shard, kind="stable")
    ordered = shard[order]
    borders = np.flatnonzero(np.diff(ordered, prepend=-1, append=-1)).tolist()
    return [(int(ordered[begin]), order[begin:end]) for begin, end in itertools.pairwise(borders)]


def take(
    arrays: Sequence[Integer[np.ndarray, "_"]], groups: Groups, index: Int64[np.ndarray, "B"]
) -> Int64[np.ndarray, "B"]:
    """The entry index[i] of the array of each row's shard."""
    result = np.empty(len(index), np.int64)
    for shard, rows in groups:
        result[rows] = arrays[shard][index[rows]]
    return result


def search(
    arrays: Sequence[Int64[np.ndarray, "_"]], groups: Groups, value: Int64[np.ndarray, "B"]
) -> Int64[np.ndarray, "B"]:
    """Index of the first entry that is >= value[i], in the sorted array of each row's shard."""
    result = np.empty(len(value), np.int64)
    for shard, rows in groups:
        result[rows] = np.searchsorted(arrays[shard], value[rows])
    return result
