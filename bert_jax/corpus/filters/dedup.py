"""Hashes of documents and paragraphs, and exact duplicates by them."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt64

# Shorter paragraphs are often repeated on purpose.
LONG_PARAGRAPH = 64  # characters

_HASHES_AT_ONCE = 1 << 23  # up to 75 bytes each during the comparison


def text_hash(text: str) -> int:
    """A 64-bit hash of a text, the same on every machine and in every version."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def document_hash(paragraphs: Sequence[str]) -> int:
    """The hash of a clean document."""
    return text_hash("\n".join(paragraphs))


def in_share(hashes: UInt64[np.ndarray, "D"], share: float) -> Bool[np.ndarray, "D"]:
    """Which documents are in a share (at most 1) of them; independent of the held-out split."""
    if share == 1:
        return np.ones(len(hashes), bool)
    return hashes * np.uint64(0x9E3779B97F4A7C15) < np.uint64(int(share * 2.0**64))


def first_occurrences(
    hashes: Sequence[UInt64[np.ndarray, "_"]], among: Sequence[Bool[np.ndarray, "_"]]
) -> list[Bool[np.ndarray, "_"]]:
    """For each array, which of its hashes occur neither earlier in it nor in an earlier array.

    Memory stays bounded for memory-mapped arrays: hashes are compared in slices of their range.

    Args:
      hashes: several arrays.
      among: for each array, which of its hashes are compared; the others are never the first.
    """
    first = [np.zeros(len(array), bool) for array in hashes]
    for positions, values in _slices(hashes, among):
        is_first = np.zeros(len(values), bool)
        is_first[np.unique(values, return_index=True)[1]] = True
        borders = np.cumsum([len(at) for at in positions])[:-1]
        for array, at, kept in zip(first, positions, np.split(is_first, borders), strict=True):
            array[at] = kept
    return first


class Repeated(NamedTuple):
    """How often a hash occurs, and its first occurrence: the array and the position in it."""

    times: int
    array: int
    position: int


def most_repeated(hashes: Sequence[UInt64[np.ndarray, "_"]], count: int) -> list[Repeated]:
    """The `count` most frequent hashes that occur more than once, the most frequent first."""
    repeated: list[Repeated] = []
    everything = [np.ones(len(array), bool) for array in hashes]
    for positions, values in _slices(hashes, everything):
        _, firsts, times = np.unique(values, return_index=True, return_counts=True)
        ends = np.cumsum([len(at) for at in positions])
        for index in np.argsort(-times, kind="stable")[:count]:
            array = int(np.searchsorted(ends, firsts[index], side="right"))
            at = positions[array][firsts[index] - ends[array]]  # counted from the array's end
            if times[index] > 1:
                repeated.append(Repeated(int(times[index]), array, int(at)))
    return sorted(repeated, key=lambda entry: (-entry.times, entry.array, entry.position))[:count]


def _slices(
    hashes: Sequence[UInt64[np.ndarray, "_"]], among: Sequence[Bool[np.ndarray, "_"]]
) -> Iterator[tuple[list[np.ndarray], UInt64[np.ndarray, "_"]]]:
    """Slices with all equal hashes together: their positions in each array, and the hashes."""
    slices = 1 + sum(map(len, hashes)) // _HASHES_AT_ONCE
    for index in range(slices):
        positions = [
            np.flatnonzero((array % slices == index) & counts)
            for array, counts in zip(hashes, among, strict=True)
        ]
        yield (
            positions,
            np.concatenate([array[at] for array, at in zip(hashes, positions, strict=True)]),
        )
