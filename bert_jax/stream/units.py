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
    vocabulary: Vocabulary,
    draw: Draw,
) -> tuple[UInt32[np.ndarray, "B L"], Int64[np.ndarray, "B"]]:
    """Chooses tokens of each row: columns in the order of choice, and how many of them count.

    Args:
      unit: `token`: tokens, uniformly. `word`: whole words in random order, each one that still
        fits, as google-research/bert: a word that does not fit is left out and the next one
        tried, so a row may have a few tokens less than wanted. `span`: spans of words of
        geometric length from random words on, as SpanBERT; they end at special tokens, may
        overlap, and the last one is cut.
      ids: the tokens.
      is_ordinary: which of them may be chosen.
      wanted: how many are to be chosen.
      vocabulary: of the ids; tells where words begin.
      draw: the random numbers of the rows.
    """
    random = draw("positions", ids.shape[1])
    available = np.minimum(wanted, np.count_nonzero(is_ordinary, axis=1))
    if unit == "token":
        return _columns(np.sort(_numbers(random, is_ordinary))), available
    # Words of all rows, one after another; a special token is a word of its own.
    begins = _word_begins(ids, is_ordinary, vocabulary)
    word = (np.cumsum(begins) - 1).reshape(ids.shape)
    begins = np.flatnonzero(begins)
    score = random.reshape(-1)[begins]
    if unit == "word":
        size = np.bincount(word.reshape(-1))[word]
        return _words_that_fit(_numbers(score[word], is_ordinary), size, available)
    span_random = draw("spans", ids.shape[1]).reshape(-1)[begins]
    score = _earliest_span(score, is_ordinary.reshape(-1)[begins], span_random)
    return _columns(np.sort(_numbers(score[word], is_ordinary))), available


def _words_that_fit(
    numbers: UInt32[np.ndarray, "B L"],
    size: Int64[np.ndarray, "B L"],
    available: Int64[np.ndarray, "B"],
) -> tuple[UInt32[np.ndarray, "B L"], Int64[np.ndarray, "B"]]:
    """Leaves out words until none is cut where the wanted count ends.

    Args:
      numbers: of the tokens; words have one score. Changed here.
      size: tokens of the word of each token.
      available: how many tokens are to be chosen.
    """
    order, count = np.sort(numbers), available.copy()
    longer = np.flatnonzero(count < order.shape[1])
    while len(longer):
        mask = ~_low_bits(order.shape[1])
        last = order[longer, np.maximum(count[longer], 1) - 1] & mask
        behind = order[longer, count[longer]]
        cut = (behind != _NEVER) & (last == behind & mask) & (count[longer] > 0)
        rows, score = longer[cut], last[cut, None]
        # As the word that is cut, no later one that is longer than what is left will ever fit.
        left = count[rows] - np.count_nonzero(order[rows] < score, axis=1)
        found = numbers[rows] & mask
        never = (found == score) | ((found > score) & (size[rows] > left[:, None]))
        numbers[rows] = np.where(never, _NEVER, numbers[rows])
        order[rows] = np.sort(numbers[rows])
        count[rows] = np.minimum(count[rows], np.count_nonzero(order[rows] != _NEVER, axis=1))
        longer = rows
    return _columns(order), count


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
        np.minimum(behind, score[:-distance], out=behind, where=covers)
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


def _columns(numbers: UInt32[np.ndarray, "B L"]) -> UInt32[np.ndarray, "B L"]:
    return numbers & _low_bits(numbers.shape[1])


def _low_bits(length: int) -> np.uint32:
    """The bits that hold a column."""
    return np.uint32((1 << (length - 1).bit_length()) - 1)
