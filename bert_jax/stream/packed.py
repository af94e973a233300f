"""Rows packed full: windows over the tokens of a shard, whatever documents lie there."""

import numpy as np
from jaxtyping import Int64, UInt32

from bert_jax.corpus.store import Split
from bert_jax.corpus.vocabulary import Vocabulary
from bert_jax.errors import UserError
from bert_jax.stream import shards
from bert_jax.stream.rows import Batch, framed_rows

_GOLDEN_RATIO = (5**0.5 - 1) / 2


class PackedExamples:
    """Row i is window i of the token arrays: no plan, no buffer, every token once an epoch.

    A shard's tokens stand in a circle, cut into windows of equal length, at most L - 2. A window
    that begins inside a document gets a [CLS] in front, one that ends inside a document a [SEP]
    behind. Between epochs the cuts move along, as evenly spread as the golden ratio has it.

    Attributes:
      size: number of rows in an epoch.
      random_width: random numbers that a row needs.
    """

    random_width = 0

    def __init__(self, split: Split, vocabulary: Vocabulary, sequence_length: int):
        """Reads only the sizes of the shards.

        Raises:
          UserError: the split has no documents.
        """
        self._length = sequence_length
        self._vocabulary = vocabulary
        self._tokens = [np.asarray(shard.tokens) for shard in split.shards if shard.num_tokens]
        if not self._tokens:
            raise UserError(
                "the corpus has no documents in one of its splits; give config.corpus.source more "
                "documents or raise config.corpus.heldout_fraction"
            )
        self._num_tokens = np.array([len(tokens) for tokens in self._tokens])
        self._num_windows = -(-self._num_tokens // (sequence_length - 2))
        self._window_ends = np.cumsum(self._num_windows)
        self.size = int(self._window_ends[-1])

    def rows(
        self,
        index: Int64[np.ndarray, "B"],
        epoch: Int64[np.ndarray, "B"],
        random: UInt32[np.ndarray, "B 0"],
    ) -> Batch:
        """The rows `index` of the epochs `epoch`."""
        del random  # nothing is drawn: the corpus says it all
        shard = np.searchsorted(self._window_ends, index, side="right")
        window = index - (self._window_ends - self._num_windows)[shard]
        size, count = self._num_tokens[shard], self._num_windows[shard]
        shift = (epoch * _GOLDEN_RATIO % 1 * (self._length - 2)).astype(np.int64)
        begin = _cut(window, size, count)
        length = _cut(window + 1, size, count) - begin
        begin = (begin + shift) % size

        # A [SEP] at the start belongs to the row before, which has put its own; likewise a [CLS]
        # at the end. Windows have three tokens or more, so text remains.
        first = shards.take(self._tokens, shard, begin)
        last = shards.take(self._tokens, shard, (begin + length - 1) % size)
        lone_sep = first == self._vocabulary.sep_id
        lone_cls = last == self._vocabulary.cls_id
        begin = (begin + lone_sep) % size
        length = length - lone_sep - lone_cls
        cut_before = ~lone_sep & (first != self._vocabulary.cls_id)
        cut_behind = ~lone_cls & (last != self._vocabulary.sep_id)

        ids = np.zeros((len(index), self._length), np.int32)
        row = np.arange(len(index))
        place = row * self._length + cut_before
        before_end = np.minimum(length, size - begin)
        shards.copy_spans(self._tokens, shard, begin, before_end, ids, place)
        around = np.flatnonzero(before_end < length)
        shards.copy_spans(
            self._tokens,
            shard[around],
            np.zeros_like(around),
            (length - before_end)[around],
            ids,
            (place + before_end)[around],
        )
        ids[cut_before, 0] = self._vocabulary.cls_id
        ids[row[cut_behind], (length + cut_before)[cut_behind]] = self._vocabulary.sep_id
        return framed_rows(ids, length + cut_before + cut_behind, self._vocabulary)


def _cut(
    window: Int64[np.ndarray, "B"], size: Int64[np.ndarray, "B"], count: Int64[np.ndarray, "B"]
) -> Int64[np.ndarray, "B"]:
    """floor(window * size / count), without the large product."""
    return window * (size // count) + window * (size % count) // count
