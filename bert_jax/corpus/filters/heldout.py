"""Which documents are held out for evaluation: by a hash of their text, at least a floor of them.

The share `heldout_fraction` of all hashes, the lowest ones, is held out. A small corpus may have
one such document or none: then the documents with the highest hashes are held out as well, until
there are FLOOR_DOCUMENTS documents and FLOOR_CHARACTERS characters, or a tenth of the corpus. The
highest, because the tokenizer is trained on the lowest ones that are not held out.

So the split does not depend on the order of the documents. When documents are added, those below
`heldout_fraction` stay held out; one of the floor joins the training split once the held-out split
is large enough without it.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Int64, UInt64

FLOOR_DOCUMENTS = 20
FLOOR_CHARACTERS = 50_000  # about 10,000 tokens, 1,500 predictions: accuracy to within 2 %
_HASHES = 1 << 64


def heldout_below(fraction: float) -> int:
    """The hash below which the share `fraction` of all hashes lies."""
    return min(int(fraction * 2.0**64), _HASHES - 1)


def fraction_for(hashes: UInt64[np.ndarray, "D"], documents: int) -> float:
    """A `heldout_fraction` that holds out so many of the documents with these hashes, or more."""
    greatest = np.sort(hashes)[documents - 1]
    return math.ceil((int(greatest) + 1) / _HASHES * 1000) / 1000


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The rule: hashes below `below`, and those from `start` on, are held out.

    Attributes:
      below: from `heldout_fraction`.
      start: from the floor; above all hashes if no floor is needed.
    """

    below: int
    start: int = _HASHES

    def holds(self, hash: int) -> bool:
        """Whether the document with this hash is held out."""
        return hash < self.below or hash >= self.start

    def as_facts(self) -> dict[str, str | None]:
        """For the manifest: hashes in hexadecimal; without a floor, `start` is null."""
        start = f"{self.start:016x}" if self.start < _HASHES else None
        return {"below": f"{self.below:016x}", "start": start}


class Chooser:
    """Chooses from the documents of all bundles.

    Attributes:
      documents: how many were added.
    """

    def __init__(self, fraction: float):
        self._below = heldout_below(fraction)
        self._has_floor = fraction > 0
        self.documents = 0
        self._characters = 0
        self._heldout_documents = 0
        self._heldout_characters = 0
        self._hashes: list[np.ndarray] = []  # of candidates for the floor
        self._lengths: list[np.ndarray] = []

    def add(self, hashes: UInt64[np.ndarray, "D"], characters: Int64[np.ndarray, "D"]) -> None:
        """Adds the documents of a bundle; keeps only those that the floor may need."""
        is_heldout = hashes < self._below
        self.documents += len(hashes)
        self._characters += int(characters.sum())
        self._heldout_documents += int(np.count_nonzero(is_heldout))
        self._heldout_characters += int(characters[is_heldout].sum())
        hashes, characters = hashes[~is_heldout], characters[~is_heldout]
        order = np.argsort(hashes)[::-1]
        count = _first(np.cumsum(characters[order]), FLOOR_DOCUMENTS, FLOOR_CHARACTERS)
        self._hashes.append(hashes[order[:count]])
        self._lengths.append(characters[order[:count]])

    def choose(self) -> tuple[HeldOut, int]:
        """The rule for the added documents, and how many of them it holds out."""
        tenth = -(-self.documents // 10)
        documents = min(FLOOR_DOCUMENTS, tenth) - self._heldout_documents
        characters = min(FLOOR_CHARACTERS, self._characters // 10) - self._heldout_characters
        if not self._has_floor or (documents <= 0 and characters <= 0):
            return HeldOut(self._below), self._heldout_documents
        hashes, lengths = np.concatenate(self._hashes), np.concatenate(self._lengths)
        order = np.argsort(hashes)[::-1]
        count = _first(np.cumsum(lengths[order]), documents, characters)
        # No more than a tenth of the documents, however short they are.
        count = min(count, max(tenth - self._heldout_documents, 0))
        if not count:
            return HeldOut(self._below), self._heldout_documents
        start = int(hashes[order[count - 1]])
        return HeldOut(self._below, start), self._heldout_documents + int((hashes >= start).sum())


def _first(sums: Int64[np.ndarray, "D"], documents: int, characters: int) -> int:
    """How many documents reach both minima; `sums` are the running sums of their characters."""
    return min(len(sums), max(documents, int(np.searchsorted(sums, characters)) + 1))
