"""Documents that are nearly copies of earlier ones, by MinHash and locality-sensitive hashing.

Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman, Ullman, "Mining
of Massive Datasets", chapter 3. Similarity is the Jaccard index of the sets of shingles.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt32, UInt64

from bert_jax.common.errors import UserError

PERMUTATIONS = 128
BANDS = 32  # of 4 values: with similarity 0.7 two documents share a band with probability 0.9998
WORDS = 5  # of a shingle
CHARACTERS = 8  # of a shingle, where text has no spaces
_SEED = 1
_PAIRS_AT_ONCE = 1 << 16  # compared: 64 MB


def signature(paragraphs: Sequence[str]) -> UInt32[np.ndarray, "permutations"]:
    """The MinHash of a document; the share of equal values estimates the Jaccard index of shingles.

    Raises:
      UserError: rensa is not installed.
    """
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise UserError(
            "config.corpus.near_duplicates needs the package rensa: pip install 'bert_jax[dedup]'"
        ) from error
    minhash = RMinHash(num_perm=PERMUTATIONS, seed=_SEED)
    minhash.update(_shingles(" ".join(paragraphs)))
    return np.array(minhash.digest(), np.uint32)


def _shingles(text: str) -> list[str]:
    words = text.split()
    if len(text) > 20 * len(words):  # a script without spaces
        return [text[i : i + CHARACTERS] for i in range(max(1, len(text) - CHARACTERS + 1))]
    return [" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))]


def near_duplicates(
    signatures: Sequence[UInt32[np.ndarray, "_ permutations"]],
    threshold: float,
    among: Sequence[Bool[np.ndarray, "_"]],
) -> list[Bool[np.ndarray, "_"]]:
    """For each array, which of its documents resemble an earlier one in it or an earlier array.

    Args:
      signatures: of the documents of each part.
      threshold: the least similarity, between 0 and 1.
      among: for each array, which of its documents are compared.
    """
    counts = np.concatenate(among)
    chosen = np.flatnonzero(counts)
    is_near = np.zeros(len(chosen), bool)
    for band in range(BANDS):
        keys = np.concatenate(
            [_keys(part, band)[mask] for part, mask in zip(signatures, among, strict=True)]
        )
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        earlier = first[group]
        candidates = np.flatnonzero((earlier < np.arange(len(keys))) & ~is_near)
        for begin in range(0, len(candidates), _PAIRS_AT_ONCE):
            pairs = candidates[begin : begin + _PAIRS_AT_ONCE]
            alike = similarity(
                _rows(signatures, chosen[pairs]), _rows(signatures, chosen[earlier[pairs]])
            )
            is_near[pairs[alike >= threshold]] = True
    result = np.zeros(len(counts), bool)
    result[chosen] = is_near
    return np.split(result, np.cumsum(list(map(len, among)))[:-1])


def _keys(signatures: UInt32[np.ndarray, "D permutations"], band: int) -> UInt64[np.ndarray, "D"]:
    """For each document a number that depends only on the values of a band."""
    rows = PERMUTATIONS // BANDS
    keys = np.zeros(len(signatures), np.uint64)
    for value in signatures[:, band * rows : (band + 1) * rows].T:
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + value
    return keys


def _rows(
    signatures: Sequence[UInt32[np.ndarray, "_ permutations"]], index: Int64[np.ndarray, "N"]
) -> UInt32[np.ndarray, "N permutations"]:
    """Rows of the arrays, counted through all of them."""
    ends = np.cumsum(list(map(len, signatures)))
    array = np.searchsorted(ends, index, side="right")
    rows = np.empty((len(index), PERMUTATIONS), np.uint32)
    for number in np.unique(array):
        in_array = array == number
        part = signatures[int(number)]
        rows[in_array] = part[index[in_array] - (ends[number] - len(part))]
    return rows


def similarity(
    first: UInt32[np.ndarray, "D permutations"], second: UInt32[np.ndarray, "D permutations"]
) -> Float[np.ndarray, "D"]:
    """The estimated Jaccard index of each pair."""
    return (first == second).mean(axis=1)
