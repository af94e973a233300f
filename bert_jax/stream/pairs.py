"""Sentence pairs: does B follow A, or is it another document's, or are they swapped?

After `create_pretraining_data.py` of google-research/bert, in closed form over a whole batch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt32

from bert_jax.corpus.store import Shard, Split
from bert_jax.corpus.vocabulary import Vocabulary
from bert_jax.errors import UserError
from bert_jax.stream import shards
from bert_jax.stream.randomness import Draw, below
from bert_jax.stream.rows import Batch, framed_rows

# Random numbers of a row: one a choice, and coins for the cuts of A and of B.
_CHOICES = 6
_COIN_WORDS = 16
_COINS = 32 * _COIN_WORDS


class _Span(NamedTuple):
    """Tokens begin ... begin + length - 1 of a shard, for each row."""

    shard: Int64[np.ndarray, "B"]
    begin: Int64[np.ndarray, "B"]
    length: Int64[np.ndarray, "B"]

    def where(self, condition: Bool[np.ndarray, "B"], otherwise: "_Span") -> "_Span":
        return _Span(*(np.where(condition, *pair) for pair in zip(self, otherwise, strict=True)))


class PairExamples:
    """Row i is a pair from window i of the documents that have two sentences or more.

    A document of n tokens has ceil(n / (L - 3)) windows of equal length; the chunk of a window is
    the sentences that start in it, two at least. The chunk is split at a random sentence border
    into A and B. Half of the pairs, whatever the corpus, are wrong ones, labelled 1:

    * objective `nsp` (BERT): B comes from another document, from a random sentence on;
    * objective `sop` (ALBERT, Lan et al., 2020): A and B have changed places.

    Both sides of a pair come from one source.

    Attributes:
      sizes: number of rows of each source in an epoch; those of a source stand together.
    """

    def __init__(
        self,
        split: Split,
        vocabulary: Vocabulary,
        objective: str,
        sequence_length: int,
        short_fraction: float,
    ):
        """Counts the windows of every document.

        Args:
          split: what the pairs are taken from.
          vocabulary: of the ids.
          objective: `nsp` or `sop`.
          sequence_length: L.
          short_fraction: share of the pairs that are made for a random shorter length.

        Raises:
          UserError: there are no pairs, or no other document to take a wrong side from.
        """
        self._length = sequence_length
        self._vocabulary = vocabulary
        self._objective = objective
        self._short_fraction = short_fraction
        self._windows = shards.Windows(
            [np.asarray(shard.tokens) for shard in split.shards], sequence_length
        )
        self._documents = [np.asarray(shard.document_offsets) for shard in split.shards]
        self._sentences = [np.asarray(shard.sentence_offsets) for shard in split.shards]
        self._document_sentences = [np.asarray(shard.document_sentences) for shard in split.shards]
        self._document_ends = np.cumsum([shard.num_documents for shard in split.shards], dtype=int)
        documents = shards.source_sizes(split.sources, self._document_ends)
        self._source_documents = np.array(list(documents.values()), int)
        self._source_ends = np.cumsum(self._source_documents)
        needed = 2 if objective == "nsp" else 1
        if max(documents.values(), default=0) < needed:
            raise UserError(
                f"config.stream.objective={objective!r} needs {needed} documents in every split, "
                f"one has {max(documents.values(), default=0)}; give config.corpus.source more "
                "documents, raise config.corpus.heldout_fraction, or set "
                "config.stream.objective='packed'"
            )
        windows = [
            _windows(shard, sequence_length - 3) * (documents[source] >= needed)
            for shard, source in zip(split.shards, split.sources, strict=True)
        ]
        self._window_ends = np.cumsum(np.concatenate(windows))
        # A shard's windows end with those of its last document; an empty one's before it begins.
        ends = np.append(0, self._window_ends)[self._document_ends]
        self.sizes = shards.source_sizes(split.sources, ends)
        if not ends[-1]:
            raise UserError(
                f"config.stream.objective={objective!r} needs documents of two sentences, there "
                "is none in one of the splits; set config.corpus.split_sentences=True or "
                "config.stream.objective='packed'"
            )

    def shard_of(self, index: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """The shard of each row."""
        return self._shard_of(np.searchsorted(self._window_ends, index, side="right"))

    def _shard_of(self, document: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        return np.searchsorted(self._document_ends, document, side="right")

    def rows(
        self,
        index: Int64[np.ndarray, "B"],
        epoch: Int64[np.ndarray, "B"],
        draw: Draw,
    ) -> Batch:
        """The rows `index`; what is random in them hangs on `draw` alone."""
        del epoch  # every epoch draws anew
        random = draw("pairs", _CHOICES + 2 * _COIN_WORDS)
        choices = random[:, :_CHOICES].T
        coins_a, coins_b = np.split(random[:, _CHOICES:], 2, axis=1)
        longest = self._length - 3
        is_short = choices[0] < self._short_fraction * 2**32
        target = np.where(is_short, 2 + below(choices[1], longest - 1), longest)

        document, a, b = self._chunks(index, target, choices[2])
        is_wrong = (choices[3] >> np.uint32(31)).astype(bool)
        if self._objective == "sop":
            a, b = b.where(is_wrong, a), a.where(is_wrong, b)
        else:
            other = self._other_documents(document, target - a.length, choices[4], choices[5])
            b = other.where(is_wrong, b)

        a_kept, b_kept = truncated_lengths(a.length, b.length, target)
        a_begin = a.begin + coin_flips(a.length - a_kept, coins_a)
        b_begin = b.begin + coin_flips(b.length - b_kept, coins_b)

        # Both sides are read so that they stand where they belong, and laid over each other.
        first_sep, second_sep = a_kept + 1, a_kept + b_kept + 2
        a_row = self._windows.read(a.shard, a_begin - 1)
        b_row = self._windows.read(b.shard, b_begin - first_sep - 1)
        is_second = np.arange(self._length, dtype=np.int32) > first_sep[:, None].astype(np.int32)
        ids = np.where(is_second, b_row, a_row).astype(np.int32)
        row = np.arange(len(index))
        ids[:, 0] = self._vocabulary.cls_id
        ids[row, first_sep] = self._vocabulary.sep_id
        ids[row, second_sep] = self._vocabulary.sep_id
        rows = framed_rows(ids, second_sep + 1, self._vocabulary)
        np.multiply(is_second, rows["segment_ids"], out=rows["token_type_ids"])
        return {**rows, "next_sentence_label": is_wrong.astype(np.int32)}

    def _chunks(
        self,
        index: Int64[np.ndarray, "B"],
        target: Int64[np.ndarray, "B"],
        random: UInt32[np.ndarray, "B"],
    ) -> tuple[Int64[np.ndarray, "B"], _Span, _Span]:
        """The document of each chunk, and its two parts, of about `target` tokens."""
        document = np.searchsorted(self._window_ends, index, side="right")
        first_window = np.where(document > 0, self._window_ends[document - 1], 0)
        window, count = index - first_window, self._window_ends[document] - first_window
        shard = self._shard_of(document)
        local = self._in_shard(document, shard)
        groups, text_begin, text_end, _, sentence_end = self._locate(shard, local)
        size = text_end - text_begin
        window_begin = text_begin + size * window // count
        window_end = text_begin + size * (window + 1) // count

        first = np.minimum(self._sentence_from(groups, window_begin), sentence_end - 2)
        begin = shards.take(self._sentences, groups, first)
        last = self._sentence_from(groups, np.minimum(window_end, begin + target))
        last = np.maximum(last, first + 2)
        border = first + 1 + below(random, last - first - 1)
        b_begin = shards.take(self._sentences, groups, border)
        b_end = self._end(groups, last, sentence_end, text_end)
        a, b = _Span(shard, begin, b_begin - begin), _Span(shard, b_begin, b_end - b_begin)
        return document, a, b

    def _other_documents(
        self,
        document: Int64[np.ndarray, "B"],
        wanted: Int64[np.ndarray, "B"],
        random_document: UInt32[np.ndarray, "B"],
        random_sentence: UInt32[np.ndarray, "B"],
    ) -> _Span:
        """About `wanted` tokens of a document of the source but `document`, whole sentences."""
        source = np.searchsorted(self._source_ends, document, side="right")
        count = self._source_documents[source]
        other = self._source_ends[source] - count + below(random_document, count - 1)
        other += other >= document
        shard = self._shard_of(other)
        local = self._in_shard(other, shard)
        groups, _, text_end, sentence_begin, sentence_end = self._locate(shard, local)
        first = sentence_begin + below(random_sentence, sentence_end - sentence_begin)
        begin = shards.take(self._sentences, groups, first)
        enough = np.minimum(begin + np.maximum(wanted, 1), text_end)
        last = self._sentence_from(groups, enough)
        return _Span(shard, begin, self._end(groups, last, sentence_end, text_end) - begin)

    def _locate(
        self, shard: Int64[np.ndarray, "B"], local: Int64[np.ndarray, "B"]
    ) -> tuple[
        shards.Groups,
        Int64[np.ndarray, "B"],
        Int64[np.ndarray, "B"],
        Int64[np.ndarray, "B"],
        Int64[np.ndarray, "B"],
    ]:
        """Begin and end of the text of documents, first and last + 1 of their sentences."""
        groups = shards.by_shard(len(self._documents), shard)
        return (
            groups,
            shards.take(self._documents, groups, local) + 1,
            shards.take(self._documents, groups, local + 1) - 1,
            shards.take(self._document_sentences, groups, local),
            shards.take(self._document_sentences, groups, local + 1),
        )

    def _in_shard(
        self, document: Int64[np.ndarray, "B"], shard: Int64[np.ndarray, "B"]
    ) -> Int64[np.ndarray, "B"]:
        """The number of each document in its shard."""
        return document - np.where(shard > 0, self._document_ends[shard - 1], 0)

    def _sentence_from(
        self, groups: shards.Groups, token: Int64[np.ndarray, "B"]
    ) -> Int64[np.ndarray, "B"]:
        """The first sentence that begins at `token` or behind it."""
        return shards.search(self._sentences, groups, token)

    def _end(
        self,
        groups: shards.Groups,
        sentence: Int64[np.ndarray, "B"],
        sentence_end: Int64[np.ndarray, "B"],
        text_end: Int64[np.ndarray, "B"],
    ) -> Int64[np.ndarray, "B"]:
        """Where the sentence before `sentence` ends: at its begin, or with the document."""
        is_last = sentence == sentence_end
        return np.where(is_last, text_end, shards.take(self._sentences, groups, sentence - is_last))


def truncated_lengths(
    a: Int64[np.ndarray, "B"], b: Int64[np.ndarray, "B"], target: Int64[np.ndarray, "B"]
) -> tuple[Int64[np.ndarray, "B"], Int64[np.ndarray, "B"]]:
    """What is left of lengths a and b when the longer one (B, if equal) is cut until both fit."""
    a_kept = np.minimum(a, np.maximum(target - b, (target + 1) // 2))
    return a_kept, np.minimum(b, target - a_kept)


def coin_flips(
    count: Int64[np.ndarray, "B"], coins: UInt32[np.ndarray, "B C"]
) -> Int64[np.ndarray, "B"]:
    """Heads among `count` fair coins: which of the cut tokens come from the front.

    Beyond the 512 coins of `coins`, all of them are flipped and their deviation from the mean is
    stretched to that of `count` coins.
    """
    tossed = np.clip(count[:, None] - 32 * np.arange(_COIN_WORDS), 0, 32).astype(np.uint64)
    shown = coins & ((np.uint64(1) << tossed) - np.uint64(1)).astype(np.uint32)
    heads = np.bitwise_count(shown).sum(axis=1, dtype=np.int64)
    stretched = count / 2 + (heads - _COINS / 2) * np.sqrt(count / _COINS)
    many = np.clip(np.rint(stretched), 0, count).astype(np.int64)
    return np.where(count <= _COINS, heads, many)


def _windows(shard: Shard, longest: int) -> Int64[np.ndarray, "_"]:
    """Number of windows of each document of a shard."""
    sizes = np.diff(shard.document_offsets) - 2
    return np.where(np.diff(shard.document_sentences) >= 2, -(-sizes // longest), 0)
