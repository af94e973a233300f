"""Sentence pairs: does B follow A, is it from another document (NSP), or are they swapped (SOP)?

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
from bert_jax.stream.rows import Batch
from bert_jax.stream.windows import DocumentWindows

# Random numbers of a row: one for each choice (is it short, its length, the border, the label, the
# other document, the other sentence), and 512 coins each for truncating A and B.
_CHOICES = 6
_COIN_WORDS = 16
_COINS = 32 * _COIN_WORDS

# Replaces a shard that no pair is taken from.
_EMPTY = Shard(np.zeros(0, np.uint16), np.zeros(1, int), np.zeros(0, int), np.zeros(1, int))


class _Span(NamedTuple):
    """Tokens begin ... begin + length - 1 of a shard, for each row."""

    shard: Int64[np.ndarray, "B"]
    begin: Int64[np.ndarray, "B"]
    length: Int64[np.ndarray, "B"]

    def where(self, condition: Bool[np.ndarray, "B"], otherwise: "_Span") -> "_Span":
        return _Span(*(np.where(condition, *pair) for pair in zip(self, otherwise, strict=True)))


class _Chunks(NamedTuple):
    """For each row, sentences of one document, in two parts."""

    document: Int64[np.ndarray, "B"]
    a: _Span
    b: _Span


class _Documents(NamedTuple):
    """For each row a document: where its text (without [CLS] and [SEP]) and its sentences are.

    Tokens and sentences are counted from the start of the shard.
    """

    groups: shards.Groups
    text_begin: Int64[np.ndarray, "B"]
    text_end: Int64[np.ndarray, "B"]
    sentence_begin: Int64[np.ndarray, "B"]
    sentence_end: Int64[np.ndarray, "B"]


class PairExamples:
    """Row i is a pair from window i of the documents that have two sentences or more.

    A document of n tokens has ceil(n / (L - 3)) windows of equal length; the chunk of a window is
    the sentences that begin in it, two at least. The chunk is split at a random sentence border
    into A and B. Half of the pairs, whatever the corpus, are false ones, labelled 1:

    * objective `nsp` (BERT): B comes from another document, from a random sentence on;
    * objective `sop` (ALBERT, Lan et al., 2020): A and B are swapped.

    Both sides of a pair come from one source.

    Attributes:
      sizes: number of rows of each source in an epoch; rows are numbered source after source.
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
          UserError: there are no pairs, or no other document to take B from.
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
        """The rows `index`; what is random in them depends on `draw` alone."""
        del epoch  # `draw` differs between epochs
        random = draw("pairs", _CHOICES + 2 * _COIN_WORDS)
        choices = random[:, :_CHOICES].T
        coins = random[:, _CHOICES:].reshape(-1, _COIN_WORDS)  # of A, of B, row after row
        longest = self._length - 3
        is_short = choices[0] < self._short_fraction * 2**32
        target = np.where(is_short, 2 + below(choices[1], longest - 1), longest)

        document, a, b = self._chunks(index, target, choices[2])
        is_false = (choices[3] >> np.uint32(31)).astype(bool)
        if self._objective == "sop":
            a, b = b.where(is_false, a), a.where(is_false, b)
        else:
            other = self._other_documents(document, target - a.length, choices[4], choices[5])
            b = other.where(is_false, b)

        a_kept, b_kept = truncated_lengths(a.length, b.length, target)
        cut_off = np.stack([a.length - a_kept, b.length - b_kept], axis=1)
        a_front, b_front = coin_flips(cut_off.reshape(-1), coins).reshape(-1, 2).T
        a_begin, b_begin = a.begin + a_front, b.begin + b_front

        # A and B are each read into a whole row, at their column, and the two are merged: this
        # needs no index for each token. Around them is other text, which [CLS], [SEP] and
        # padding overwrite.
        first_sep, second_sep = a_kept + 1, a_kept + b_kept + 2
        a_row = self._texts.read(a.shard, a_begin - 1)
        b_row = self._texts.read(b.shard, b_begin - first_sep - 1)
        column = np.arange(self._length, dtype=np.int32)
        is_b = column > first_sep[:, None].astype(np.int32)
        is_token = column <= second_sep[:, None].astype(np.int32)
        ids = np.where(is_b, b_row, a_row).astype(np.int32)
        row = np.arange(len(index))
        ids[:, 0] = self._vocabulary.cls_id
        ids[row, first_sep] = self._vocabulary.sep_id
        ids[row, second_sep] = self._vocabulary.sep_id
        np.copyto(ids, self._vocabulary.pad_id, where=~is_token)
        return {
            "input_ids": ids,
            "token_type_ids": (is_b & is_token).astype(np.int32),
            "position_ids": column * is_token,
            "segment_ids": is_token.astype(np.int32),
            "next_sentence_label": is_false.astype(np.int32),
        }

    def _chunks(
        self,
        index: Int64[np.ndarray, "B"],
        target: Int64[np.ndarray, "B"],
        random: UInt32[np.ndarray, "B"],
    ) -> _Chunks:
        """The chunks of windows, of about `target` tokens."""
        window = self._windows.find(index)
        shard = window.shard
        document = self._locate(shard, window.document)
        size = document.text_end - document.text_begin
        window_begin = document.text_begin + size * window.number // window.num_windows
        window_end = document.text_begin + size * (window.number + 1) // window.num_windows

        # Sentences first ... last - 1: those that begin in the window, and at least two.
        first = self._sentence_from(document.groups, window_begin)
        first = np.minimum(first, document.sentence_end - 2)
        begin = shards.take(self._sentences, document.groups, first)
        last = self._sentence_from(document.groups, np.minimum(window_end, begin + target))
        last = np.maximum(last, first + 2)
        border = first + 1 + below(random, last - first - 1)
        b_begin = shards.take(self._sentences, document.groups, border)
        b_end = self._end(document, last)
        return _Chunks(
            window.document + self._first_documents[shard],
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
        """Whole sentences, about `wanted` tokens, of another document of the same source."""
        source = np.searchsorted(self._source_ends, document, side="right")
        count = self._source_documents[source]
        other = self._source_ends[source] - count + below(random_document, count - 1)
        other += other >= document  # every document but this one
        shard = self._shard_of(other)
        located = self._locate(shard, other - self._first_documents[shard])
        sentences = located.sentence_end - located.sentence_begin
        first = located.sentence_begin + below(random_sentence, sentences)
        begin = shards.take(self._sentences, located.groups, first)
        enough = np.minimum(begin + np.maximum(wanted, 1), located.text_end)
        last = self._sentence_from(located.groups, enough)
        return _Span(shard, begin, self._end(located, last) - begin)

    def _locate(self, shard: Int64[np.ndarray, "B"], local: Int64[np.ndarray, "B"]) -> _Documents:
        """Documents by their shard and their number in it."""
        groups = shards.by_shard(len(self._documents), shard)
        borders = np.stack([local, local + 1], axis=1)
        begin, end = shards.take(self._documents, groups, borders).T
        sentence_begin, sentence_end = shards.take(self._document_sentences, groups, borders).T
        return _Documents(groups, begin + 1, end - 1, sentence_begin, sentence_end)

    def _sentence_from(
        self, groups: shards.Groups, token: Int64[np.ndarray, "B"]
    ) -> Int64[np.ndarray, "B"]:
        """The first sentence that begins at `token` or after it."""
        return shards.search(self._sentences, groups, token)

    def _end(
        self, document: _Documents, sentence: Int64[np.ndarray, "B"]
    ) -> Int64[np.ndarray, "B"]:
        """Where the sentence before `sentence` ends: where `sentence` begins, or the text ends."""
        is_last = sentence == document.sentence_end
        begin = shards.take(self._sentences, document.groups, sentence - is_last)
        return np.where(is_last, document.text_end, begin)


def truncated_lengths(
    a: Int64[np.ndarray, "B"], b: Int64[np.ndarray, "B"], target: Int64[np.ndarray, "B"]
) -> tuple[Int64[np.ndarray, "B"], Int64[np.ndarray, "B"]]:
    """Lengths after the longer side (B, if equal) has lost a token at a time until both fit.

    BERT's `truncate_seq_pair` in closed form: A keeps what B leaves of `target`, or
    half of it (rounded up) if that is more; B keeps the rest.
    """
    a_kept = np.minimum(a, np.maximum(target - b, (target + 1) // 2))
    return a_kept, np.minimum(b, target - a_kept)


def coin_flips(
    count: Int64[np.ndarray, "B"], coins: UInt32[np.ndarray, "B C"]
) -> Int64[np.ndarray, "B"]:
    """Heads among `count` fair coins: how many tokens to cut off at the front.

    BERT flips a coin for every token that it cuts off. Up to 512 flips are the first `count` bits
    of `coins`; for more, all 512 are flipped and their deviation from the mean is scaled to that of
    `count` coins.
    """
    # Of each word of 32 coins, how many are flipped: the lowest bits.
    flipped = np.clip(count[:, None] - 32 * np.arange(_COIN_WORDS), 0, 32).astype(np.uint64)
    shown = coins & ((np.uint64(1) << flipped) - np.uint64(1)).astype(np.uint32)
    heads = np.bitwise_count(shown).sum(axis=1, dtype=np.int64)
    stretched = count / 2 + (heads - _COINS / 2) * np.sqrt(count / _COINS)
    many = np.clip(np.rint(stretched), 0, count).astype(np.int64)
    return np.where(count <= _COINS, heads, many)
