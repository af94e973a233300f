"""Sentence pairs: does B follow A, or is it another document's, or are they swapped?

After `create_pretraining_data.py` of google-research/bert, in closed form over a whole batch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt32

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Shard, Split
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream import shards
from bert_jax.stream.randomness import Draw, below
from bert_jax.stream.rows import Batch, framed_rows
from bert_jax.stream.windows import DocumentWindows

# Random numbers of a row: one a choice, and coins for the cuts of A and of B.
_CHOICES = 6
_COIN_WORDS = 16
_COINS = 32 * _COIN_WORDS

# Stands for a shard that no pair is taken from.
_EMPTY = Shard(np.zeros(0, np.uint16), np.zeros(1, int), np.zeros(0, int), np.zeros(1, int))


class _Span(NamedTuple):
    """Tokens begin ... begin + length - 1 of a shard, for each row."""

    shard: Int64[np.ndarray, "B"]
    begin: Int64[np.ndarray, "B"]
    length: Int64[np.ndarray, "B"]

    def where(self, condition: Bool[np.ndarray, "B"], otherwise: "_Span") -> "_Span":
        return _Span(*(np.where(condition, *pair) for pair in zip(self, otherwise, strict=True)))


class _Chunks(NamedTuple):
    """Sentences of one document each, in two parts."""

    document: Int64[np.ndarray, "B"]
    a: _Span
    b: _Span


class _Documents(NamedTuple):
    """Where the text of documents begins and ends in its shard, and their sentences."""

    groups: shards.Groups
    text_begin: Int64[np.ndarray, "B"]
    text_end: Int64[np.ndarray, "B"]
    sentence_begin: Int64[np.ndarray, "B"]
    sentence_end: Int64[np.ndarray, "B"]


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
        self._texts = shards.Windows(
            [np.asarray(shard.tokens) for shard in split.shards], sequence_length
        )
        self._documents = [np.asarray(shard.document_offsets) for shard in split.shards]
        self._sentences = [np.asarray(shard.sentence_offsets) for shard in split.shards]
        self._document_sentences = [np.asarray(shard.document_sentences) for shard in split.shards]
        self._document_ends = np.cumsum([shard.num_documents for shard in split.shards], dtype=int)
        self._first_documents = np.append(0, self._document_ends[:-1])
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
        self._windows = DocumentWindows(
            [
                shard if documents[source] >= needed else _EMPTY
                for shard, source in zip(split.shards, split.sources, strict=True)
            ],
            sequence_length - 3,
        )
        self.sizes = shards.source_sizes(split.sources, self._windows.ends)
        if not any(self.sizes.values()):
            raise UserError(
                f"config.stream.objective={objective!r} needs documents of two sentences, there "
                "is none in one of the splits: add documents or raise "
                "config.corpus.heldout_fraction; if all documents are one sentence, see whether "
                "config.corpus.documents, lines and config.corpus.split_sentences are right; or "
                "set config.stream.objective='packed'"
            )

    def shard_of(self, index: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """The shard of each row."""
        return self._windows.shard_of(index)

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
        a_row = self._texts.read(a.shard, a_begin - 1)
        b_row = self._texts.read(b.shard, b_begin - first_sep - 1)
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
    ) -> _Chunks:
        """The chunks of windows, of about `target` tokens."""
        place = self._windows.find(index)
        shard = place.shard
        found = self._locate(shard, place.document)
        size = found.text_end - found.text_begin
        window_begin = found.text_begin + size * place.window // place.num_windows
        window_end = found.text_begin + size * (place.window + 1) // place.num_windows

        first = self._sentence_from(found.groups, window_begin)
        first = np.minimum(first, found.sentence_end - 2)
        begin = shards.take(self._sentences, found.groups, first)
        last = self._sentence_from(found.groups, np.minimum(window_end, begin + target))
        last = np.maximum(last, first + 2)
        border = first + 1 + below(random, last - first - 1)
        b_begin = shards.take(self._sentences, found.groups, border)
        b_end = self._end(found, last)
        return _Chunks(
            place.document + self._first_documents[shard],
            _Span(shard, begin, b_begin - begin),
            _Span(shard, b_begin, b_end - b_begin),
        )

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
        found = self._locate(shard, other - self._first_documents[shard])
        sentences = found.sentence_end - found.sentence_begin
        first = found.sentence_begin + below(random_sentence, sentences)
        begin = shards.take(self._sentences, found.groups, first)
        enough = np.minimum(begin + np.maximum(wanted, 1), found.text_end)
        last = self._sentence_from(found.groups, enough)
        return _Span(shard, begin, self._end(found, last) - begin)

    def _locate(self, shard: Int64[np.ndarray, "B"], local: Int64[np.ndarray, "B"]) -> _Documents:
        groups = shards.by_shard(len(self._documents), shard)
        return _Documents(
            groups,
            shards.take(self._documents, groups, local) + 1,
            shards.take(self._documents, groups, local + 1) - 1,
            shards.take(self._document_sentences, groups, local),
            shards.take(self._document_sentences, groups, local + 1),
        )

    def _sentence_from(
        self, groups: shards.Groups, token: Int64[np.ndarray, "B"]
    ) -> Int64[np.ndarray, "B"]:
        """The first sentence that begins at `token` or behind it."""
        return shards.search(self._sentences, groups, token)

    def _end(self, found: _Documents, sentence: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """Where the sentence before `sentence` ends: at its begin, or with the document."""
        is_last = sentence == found.sentence_end
        begin = shards.take(self._sentences, found.groups, sentence - is_last)
        return np.where(is_last, found.text_end, begin)


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
