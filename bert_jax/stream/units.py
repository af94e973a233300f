"""What is masked together: which tokens of a row are chosen for prediction.

Every token gets a number: in the high bits a random score, equal for tokens that go together, in
the low bits its column. The first ones in the order of these numbers are the chosen ones, so one
sort of plain integers, which processors do fast, does it all.
"""

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32

from bert_jax.corpus.vocabulary import Vocabulary
from bert_jax.stream.randomness import Draw

UNITS = ("token", "word", "span")
_NEVER = np.uint32(0xFFFFFFFF)

# SpanBERT (Joshi et al., 2020): lengths in words are geometric with p = 0.2, and at most 10.
LONGEST_SPAN = 10
SPAN_SHARES = 0.8 ** np.arange(LONGEST_SPAN) / np.sum(0.8 ** np.arange(LONGEST_SPAN))
_SPAN_BOUNDS = (np.cumsum(SPAN_SHARES)[:-1] * 2**32).astype(np.uint32)


def choose(
    unit: str,
    ids: Int32[np.ndarray, "B L"],
    is_ordinary: Bool[np.ndarray, "B L"],
    wanted: Int64[np.ndarray, "B"],
    predictions: int,
    vocabulary: Vocabulary,
    draw: Draw,
) -> tuple[UInt32[np.ndarray, "B {predictions}"], Bool[np.ndarray, "B {predictions}"]]:
    """Chooses tokens of each row: their columns in the order of choice, and which of them count.

    Args:
      unit: `token`: tokens, uniformly. `word`: whole words in random order, each one that still
        fits, as google-research/bert: a word that does not fit is left out and the next one
        tried, so a row may have a few tokens less than wanted. `span`: spans of words of
        geometric length from random words on, as SpanBERT; they end at special tokens, may
        overlap, and the last one is cut.
      ids: the tokens.
      is_ordinary: which of them may be chosen.
      wanted: how many are to be chosen, if there are as many.
      predictions: P, the most that are wanted.
      vocabulary: of the ids; tells where words begin.
      draw: the random numbers of the rows.
    """
    score = draw("positions", ids.shape[1])
    if unit == "token":
        return _first(np.sort(_numbers(score, is_ordinary)), wanted, predictions)
    # Words of all rows, one after another; a special token is a word of its own.
    is_begin = _word_begins(ids, is_ordinary, vocabulary)
    word = (np.cumsum(is_begin, dtype=np.int32) - 1).reshape(ids.shape)
    begins = np.flatnonzero(is_begin)
    word_score = score.reshape(-1)[begins]
    if unit == "word":
        numbers = _numbers(word_score.take(word), is_ordinary)
        size = np.diff(begins, append=ids.size).take(word)
        return _first(*_words_that_fit(numbers, size, wanted), predictions)
    length = draw("spans", ids.shape[1]).reshape(-1)[begins]
    word_score = _earliest_span(word_score, is_ordinary.reshape(-1)[begins], length)
    return _first(np.sort(_numbers(word_score.take(word), is_ordinary)), wanted, predictions)


def _words_that_fit(
    numbers: UInt32[np.ndarray, "B L"],
    size: Int64[np.ndarray, "B L"],
    wanted: Int64[np.ndarray, "B"],
) -> tuple[UInt32[np.ndarray, "B L"], Int64[np.ndarray, "B"]]:
    """The sorted numbers without the words that would be cut where the wanted count ends.

    Args:
      numbers: of the tokens; the tokens of a word have one score. Changed here.
      size: tokens of the word of each token.
      wanted: how many tokens are to be chosen.
    """
    order = np.sort(numbers)
    is_score = ~_low_bits(order.shape[1])
    rows = np.flatnonzero(wanted < order.shape[1])
    while len(rows):
        last = order[rows, wanted[rows] - 1] & is_score
        behind = order[rows, wanted[rows]]
        is_cut = (behind != _NEVER) & (last == behind & is_score)
        rows, cut = rows[is_cut], last[is_cut, None]
        # As the word that is cut, no later one that is longer than what is left will ever fit.
        left = wanted[rows] - np.count_nonzero(order[rows] < cut, axis=1)
        score = numbers[rows] & is_score
        never = (score == cut) | ((score > cut) & (size[rows] > left[:, None]))
        numbers[rows] = np.where(never, _NEVER, numbers[rows])
        order[rows] = np.sort(numbers[rows])
    return order, wanted


def _earliest_span(
    score: UInt32[np.ndarray, "W"],
    is_ordinary: Bool[np.ndarray, "W"],
    random: UInt32[np.ndarray, "W"],
) -> UInt32[np.ndarray, "W"]:
    """The score of the earliest span that covers each word, if one begins at every word."""
    reach = np.where(is_ordinary, np.searchsorted(_SPAN_BOUNDS, random, side="right"), 0)
    text = np.cumsum(~is_ordinary)  # words without a special token between them
    earliest = score.copy()
    for distance in range(1, LONGEST_SPAN):
        covers = (reach[:-distance] >= distance) & (text[:-distance] == text[distance:])
        behind = earliest[distance:]
        np.minimum(behind, np.where(covers, score[:-distance], _NEVER), out=behind)
    return earliest


def _word_begins(
    ids: Int32[np.ndarray, "B L"], is_ordinary: Bool[np.ndarray, "B L"], vocabulary: Vocabulary
) -> Bool[np.ndarray, "B*L"]:
    begins = vocabulary.starts_word.take(ids) | ~is_ordinary
    begins[:, 1:] |= ~is_ordinary[:, :-1]
    begins[:, 0] = True
    return begins.reshape(-1)


def _numbers(
    score: UInt32[np.ndarray, "B L"], is_ordinary: Bool[np.ndarray, "B L"]
) -> UInt32[np.ndarray, "B L"]:
    length = score.shape[1]
    numbers = (score & ~_low_bits(length)) | np.arange(length, dtype=np.uint32)
    return np.where(is_ordinary, numbers, _NEVER)


def _first(
    order: UInt32[np.ndarray, "B L"], wanted: Int64[np.ndarray, "B"], predictions: int
) -> tuple[UInt32[np.ndarray, "B {predictions}"], Bool[np.ndarray, "B {predictions}"]]:
    """Columns of the first of the sorted numbers, and which of them were wanted and are there."""
    first = order[:, :predictions]
    is_chosen = (np.arange(predictions) < wanted[:, None]) & (first != _NEVER)
    return first & _low_bits(order.shape[1]), is_chosen


def _low_bits(length: int) -> np.uint32:
    """The bits that hold a column."""
    return np.uint32((1 << (length - 1).bit_length()) - 1)
