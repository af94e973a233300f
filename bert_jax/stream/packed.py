"""Packed rows: windows over the tokens of a shard, across the borders of its documents.

A worked example: two documents, [CLS] a b c d [SEP] and [CLS] e f g h [SEP], 12 tokens in all, in
rows of L = 8. There are ceil(12 / (8 - 2)) = 2 windows of 6 tokens:

    epoch 0   windows   [CLS] a b c d [SEP]                [CLS] e f g h [SEP]
              rows      [CLS] a b c d [SEP] [PAD] [PAD]    [CLS] e f g h [SEP] [PAD] [PAD]
    epoch 1   windows   c d [SEP] [CLS] e f                g h [SEP] [CLS] a b
              rows      [CLS] c d [SEP] [CLS] e f [SEP]    [CLS] g h [SEP] [CLS] a b [SEP]

The tokens of a shard are read as a circle: the first one follows the last one.
"""

import numpy as np
from jaxtyping import Int64

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.randomness import Draw
from bert_jax.stream.rows import Batch, framed_rows
from bert_jax.stream.shards import Windows, columns_from, source_sizes

_GOLDEN_RATIO = (5**0.5 - 1) / 2


class PackedExamples:
    """Row i is window i of the token arrays: no plan, no buffer, every token once an epoch.

    A shard's tokens form a circle, cut into windows of equal length, at most L - 2. A window that
    begins inside a document gets a [CLS] before it, one that ends inside a document a [SEP] after
    it. In epoch e all cuts are shifted by the fraction (e * golden ratio) mod 1 of a window: the
    shifts of any number of epochs are spread evenly.

    Attributes:
      sizes: number of rows of each source in an epoch; rows are numbered source after source.
    """

    def __init__(self, split: Split, vocabulary: Vocabulary, sequence_length: int):
        """Reads only the sizes of the shards.

        Raises:
          UserError: the split has no documents.
        """
        self._length = sequence_length
        self._vocabulary = vocabulary
        tokens = [np.asarray(shard.tokens) for shard in split.shards]
        self._num_tokens = np.array([len(array) for array in tokens], np.int64)
        if not self._num_tokens.any():
            raise UserError(
                "the corpus has no documents in one of its splits; give config.corpus.source more "
                "documents or raise config.corpus.heldout_fraction"
            )
        # Two tokens more than a row has: `rows` leaves out up to two at the beginning.
        self._windows = Windows(tokens, sequence_length + 2)
        self._num_windows = -(-self._num_tokens // (sequence_length - 2))
        self._window_ends = np.cumsum(self._num_windows)
        self.sizes = source_sizes(split.sources, self._window_ends)

    def shard_of(self, index: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """The shard of each row."""
        return np.searchsorted(self._window_ends, index, side="right")

    def rows(
        self,
        index: Int64[np.ndarray, "B"],
        epoch: Int64[np.ndarray, "B"],
        draw: Draw,
    ) -> Batch:
        """The rows `index` of the epochs `epoch`."""
        del draw  # packed rows use no randomness
        cls_id, sep_id = self._vocabulary.cls_id, self._vocabulary.sep_id
        shard = self.shard_of(index)
        window = index - (self._window_ends - self._num_windows)[shard]
        size, count = self._num_tokens[shard], self._num_windows[shard]
        shift = (epoch * _GOLDEN_RATIO % 1 * (self._length - 2)).astype(np.int64)
        begin = _cut(window, size, count)
        length = _cut(window + 1, size, count) - begin
        begin += shift

        # `tokens` begins one token before the window: the column of a [CLS] that may be added. At
        # the beginning nothing is left out if text comes first; the extra column if the window
        # has a [CLS] there; also a [SEP], because the row of the previous window ends with it.
        # A [CLS] at the end is left out because the row of the next window begins with it.
        # Windows have three tokens or more, so text remains.
        tokens = self._windows.read(shard, begin - 1)
        row = np.arange(len(tokens))
        first, last = tokens[:, 1], tokens[row, length]
        left_out = np.where(first == sep_id, 2, (first == cls_id).astype(np.int64))
        ids = columns_from(tokens, left_out, self._length).astype(np.int32)
        end = 1 + length - left_out - (last == cls_id)
        ids[:, 0] = cls_id
        ends_in_text = np.flatnonzero((last != cls_id) & (last != sep_id))
        ids[ends_in_text, end[ends_in_text]] = sep_id
        end[ends_in_text] += 1
        return framed_rows(ids, end, self._vocabulary)


def _cut(
    window: Int64[np.ndarray, "B"], size: Int64[np.ndarray, "B"], count: Int64[np.ndarray, "B"]
) -> Int64[np.ndarray, "B"]:
    """floor(window * size / count): where a window begins; the product could overflow 64 bits."""
    return window * (size // count) + window * (size % count) // count
