"""Documents cut into windows, and which document a window is in.

A table of all documents would not fit into memory for the largest corpora: one number is kept for
every 16 documents.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from bert_jax.corpus.store import Shard
from bert_jax.stream.shards import by_shard, take

BLOCK = 16  # documents for each number that is kept


class Window(NamedTuple):
    """Of each row: window `number` of the `num_windows` windows of a document."""

    shard: Int64[np.ndarray, "B"]
    document: Int64[np.ndarray, "B"]  # its number in the shard
    number: Int64[np.ndarray, "B"]
    num_windows: Int64[np.ndarray, "B"]


class DocumentWindows:
    """The windows of all documents that have two sentences or more, one after another.

    A document of n tokens has ceil(n / longest) windows. For every block of 16 documents the number
    of its first window is kept, half a byte a document; the sizes of those 16 are read again when a
    window of the block is asked for.

    Attributes:
      ends: of each shard, the windows up to its end.
    """

    def __init__(self, shards: Sequence[Shard], longest: int):
        """Counts the windows of all documents: every offset is read once."""
        self._longest = longest
        self._offsets = [np.asarray(shard.document_offsets) for shard in shards]
        self._sentences = [np.asarray(shard.document_sentences) for shard in shards]
        self._num_documents = np.array([shard.num_documents for shard in shards], np.int64)
        borders = zip(self._offsets, self._sentences, strict=True)
        blocks = [self._block_sizes(*of_shard) for of_shard in borders]
        self._shard_blocks = np.cumsum([0, *map(len, blocks)])
        self._begins = np.cumsum(np.concatenate([[0], *blocks]), dtype=np.int64)
        self.ends = self._begins[self._shard_blocks[1:]]

    def _block_sizes(
        self, offsets: Int64[np.ndarray, "borders"], sentences: Int64[np.ndarray, "borders"]
    ) -> Int64[np.ndarray, "blocks"]:
        if len(offsets) == 1:
            return np.zeros(0, np.int64)
        sizes = self._sizes(offsets, sentences)
        return np.add.reduceat(sizes, np.arange(0, len(sizes), BLOCK))

    def _sizes(
        self,
        offsets: Int64[np.ndarray, "*B borders"],
        sentences: Int64[np.ndarray, "*B borders"],
    ) -> Int64[np.ndarray, "*B documents"]:
        """Windows of each document between these borders."""
        tokens = np.diff(offsets) - 2
        return np.where(np.diff(sentences) >= 2, -(-tokens // self._longest), 0)

    def shard_of(self, index: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """The shard of each window."""
        return np.searchsorted(self.ends, index, side="right")

    def find(self, index: Int64[np.ndarray, "B"]) -> Window:
        """The document of each window, and its number there."""
        shard = self.shard_of(index)
        block = np.searchsorted(self._begins, index, side="right") - 1
        first = BLOCK * (block - self._shard_blocks[shard])
        # Blocks at the end of a shard are filled with documents of no token and no sentence.
        border = first[:, None] + np.arange(BLOCK + 1)
        border = np.minimum(border, self._num_documents[shard][:, None])
        groups = by_shard(len(self._offsets), shard)
        sizes = self._sizes(
            take(self._offsets, groups, border), take(self._sentences, groups, border)
        )
        ends = self._begins[block][:, None] + np.cumsum(sizes, axis=1)
        number = np.count_nonzero(ends <= index[:, None], axis=1)
        row = np.arange(len(index))
        count = sizes[row, number]
        return Window(shard, first + number, index - ends[row, number] + count, count)
