"""Reads of a whole batch at once from the memory maps of many shards."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer


class Windows:
    """All windows of one length over the arrays of shards; each array is read as a circle.

    A strided view has one row for every index where a window can begin, so that numpy copies the
    rows that are asked for without an index for each token.
    """

    def __init__(self, arrays: Sequence[Integer[np.ndarray, "_"]], length: int):
        """Makes the views; reads nothing."""
        self._arrays = arrays
        self._length = length
        self._views = [
            np.lib.stride_tricks.sliding_window_view(
                array if len(array) >= length else np.resize(array, length), length
            )
            for array in arrays
        ]
        self._num_inside = np.array([max(len(array) - length + 1, 0) for array in arrays])

    def read(
        self, shard: Int64[np.ndarray, "B"], start: Int64[np.ndarray, "B"]
    ) -> Integer[np.ndarray, "B length"]:
        """The tokens of shard[i] from start[i] on; a start below 0 counts from the shard's end."""
        outside = np.flatnonzero((start < 0) | (start >= self._num_inside[shard]))
        begin = start.copy()
        begin[outside] = 0
        result = np.empty((len(start), self._length), self._views[0].dtype)
        for index, rows in by_shard(len(self._views), shard):
            result[rows] = self._views[index][begin[rows]]
        for row in outside.tolist():
            token = np.arange(start[row], start[row] + self._length)
            result[row] = self._arrays[shard[row]].take(token, mode="wrap")
        return result


def columns_from(
    rows: Integer[np.ndarray, "B wide"], first: Int64[np.ndarray, "B"], length: int
) -> Integer[np.ndarray, "B {length}"]:
    """Of each row the `length` columns from first[i] on."""
    if not len(rows):  # `sliding_window_view` refuses an array shorter than the window
        return np.empty((0, length), rows.dtype)
    views = np.lib.stride_tricks.sliding_window_view(rows.reshape(-1), length)
    return views[first + rows.shape[1] * np.arange(len(rows))]


# (shard, its rows of the batch) for each shard that occurs; computed once for several reads.
Groups = list[tuple[int, slice | Int64[np.ndarray, "_"]]]


def by_shard(count: int, shard: Int64[np.ndarray, "B"]) -> Groups:
    """The rows of the batch that each of `count` shards has; `slice(None)` is all rows."""
    if count == 1:
        return [(0, slice(None))]
    order = np.argsort(shard, kind="stable")
    sizes = np.bincount(shard, minlength=count)
    ends = np.cumsum(sizes)
    return [
        (index, order[ends[index] - sizes[index] : ends[index]])
        for index in np.flatnonzero(sizes).tolist()
    ]


def take(
    arrays: Sequence[Integer[np.ndarray, "_"]], groups: Groups, index: Int64[np.ndarray, "B *more"]
) -> Int64[np.ndarray, "B *more"]:
    """The entries index[i] of the array of each row's shard."""
    result = np.empty(index.shape, np.int64)
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


def source_sizes(sources: Sequence[str], ends: Int64[np.ndarray, "shards"]) -> dict[str, int]:
    """How many examples each source has, from where those of each shard end."""
    last = {name: index for index, name in enumerate(sources)}
    return dict(zip(last, np.diff(ends[list(last.values())], prepend=0).tolist(), strict=True))
