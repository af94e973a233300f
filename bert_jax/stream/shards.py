"""Reading at many places of many memory maps at once."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int32, Int64, Integer
from numpy.lib.stride_tricks import sliding_window_view


class Windows:
    """Rows of L tokens from anywhere in the shards; the tokens of a shard stand in a circle."""

    def __init__(self, tokens: Sequence[Integer[np.ndarray, "_"]], length: int):
        """Prepares views of `tokens`, none of them empty; reads nothing but shards below L."""
        self._tokens = tokens
        self._length = length
        # Windows as a view: to index it copies rows, not tokens, ten times as fast.
        self._views = [
            sliding_window_view(array if len(array) >= length else np.resize(array, length), length)
            for array in tokens
        ]
        self._last = np.array([len(view) - 1 for view in self._views])

    def rows(
        self, shard: Int64[np.ndarray, "B"], start: Int64[np.ndarray, "B"]
    ) -> Int32[np.ndarray, "B L"]:
        """The L tokens of each shard[i] from start[i] on."""
        result = np.empty((len(start), self._length), np.int32)
        inside = np.clip(start, 0, self._last[shard])
        for index, rows in _by_shard(len(self._tokens), shard):
            result[rows] = self._views[index][inside[rows]]
        for row in np.flatnonzero(inside != start).tolist():
            place = np.arange(start[row], start[row] + self._length)
            result[row] = self._tokens[shard[row]].take(place, mode="wrap")
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
