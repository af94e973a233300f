"""Documents that are nearly copies of earlier ones, by MinHash and locality-sensitive hashing.

Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman, Ullman, "Mining
of Massive Datasets", chapter 3. Similarity is the Jaccard index of the sets of shingles.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt32

from bert_jax.errors import UserError

PERMUTATIONS = 128
BANDS = 32  # of four values each: similarities from 0.7 on meet in some band, 9,998 times in 10,000
WORDS = 5  # of a shingle
CHARACTERS = 8  # of a shingle, where text has no spaces
_SEED = 1


def signature(paragraphs: Sequence[str]) -> UInt32[np.ndarray, "permutations"]:
    """The MinHash of a document; signatures agree in as large a share as shingles do.

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
    if len(text) > 20 * len(words):  # no script with spaces has such words
        return [text[i : i + CHARACTERS] for i in range(max(1, len(text) - CHARACTERS + 1))]
    return [" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))]


def near_duplicates(
    signatures: Sequence[UInt32[np.ndarray, "_ permutations"]],
    threshold: float,
    among: Sequence[Bool[np.ndarray, "_"]],
) -> list[Bool[np.ndarray, "_"]]:
    """For each array, which of its documents resemble an earlier one, of it or an array before.

    Args:
      signatures: of the documents of each part.
      threshold: the least similarity, between 0 and 1.
      among: for each array, which of its documents count; the others resemble none.
    """
    counts = np.concatenate(among)
    everything = np.concatenate(signatures)[counts]
    is_near = np.zeros(len(everything), bool)
    rows = PERMUTATIONS // BANDS
    for band in range(BANDS):
        keys = np.zeros(len(everything), np.uint64)
        for value in everything[:, band * rows : (band + 1) * rows].T:
            keys = keys * np.uint64(0x9E3779B97F4A7C15) + value
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        earlier = first[group]
        candidates = np.flatnonzero((earlier < np.arange(len(keys))) & ~is_near)
        alike = similarity(everything[candidates], everything[earlier[candidates]])
        is_near[candidates[alike >= threshold]] = True
    found = np.zeros(len(counts), bool)
    found[counts] = is_near
    return np.split(found, np.cumsum([len(part) for part in signatures])[:-1])


def similarity(
    first: UInt32[np.ndarray, "D permutations"], second: UInt32[np.ndarray, "D permutations"]
) -> Float[np.ndarray, "D"]:
    """The estimated Jaccard index of each pair."""
    return (first == second).mean(axis=1)
