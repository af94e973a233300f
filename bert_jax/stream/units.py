"""What is masked together: which tokens of a row are chosen for prediction.

Every token gets a number: in the high bits a random score, equal for tokens that go together, in
the low bits its column. The first ones in the order of these numbers are the chosen ones, so one
sort of plain integers, which processors do fast, does it all.
"""

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
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
        geometric length, as SpanBERT, one after another from random words on that are not in a
        span yet; one ends early at a special token and at another span, and the last one is cut.
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
    numbers = np.sort(_numbers(score, is_ordinary & is_begin.reshape(ids.shape)))
    length = 1 + np.searchsorted(_SPAN_BOUNDS, draw("spans", ids.shape[1]), side="right")
    word_ends = np.append(begins, np.full(LONGEST_SPAN, ids.size))[word + length]
    chosen = _spans(numbers, np.minimum(word_ends, _text_ends(is_ordinary)), wanted)
    is_chosen = np.arange(predictions) < np.count_nonzero(chosen, axis=1)[:, None]
    columns = np.zeros(is_chosen.shape, np.uint32)
    columns[is_chosen] = np.nonzero(chosen)[1]
    return columns, is_chosen


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


def _spans(
    order: UInt32[np.ndarray, "B L"],
    end: Int64[np.ndarray, "B L"],
    wanted: Int64[np.ndarray, "B"],
) -> Bool[np.ndarray, "B L"]:
    """The tokens in spans, made in rounds: in each one, every row tries its next word.

    Args:
      order: the sorted numbers of the words.
      end: of a span that begins at a token; a place in all rows.
      wanted: tokens in spans.
    """
    length = order.shape[1]
    chosen = np.zeros(order.size, bool)
    left = wanted.copy()
    trying = np.flatnonzero(left)
    for place in range(length):
        trying = trying[(order[trying, place] != _NEVER) & (left[trying] > 0)]
        if not len(trying):
            break
        begin = length * trying + (order[trying, place] & _low_bits(length)).astype(np.int64)
        is_new = ~chosen[begin]
        row, begin = trying[is_new], begin[is_new]
        if not len(row):
            continue
        size = np.minimum(end.reshape(-1)[begin] - begin, left[row])
        borders = np.cumsum(size) - size
        token = np.arange(size.sum()) + np.repeat(begin - borders, size)
        # Where another span begins, this one ends.
        met = np.minimum.reduceat(np.where(chosen[token], token, chosen.size), borders)
        size_kept = np.minimum(size, met - begin)
        chosen[token[token < np.repeat(begin + size_kept, size)]] = True
        left[row] -= size_kept
    return chosen.reshape(order.shape)


def _text_ends(is_ordinary: Bool[np.ndarray, "B L"]) -> Int64[np.ndarray, "B L"]:
    """For each token the place, in all rows, of the next special token or row."""
    rows, length = is_ordinary.shape
    place = np.arange(rows * length).reshape(is_ordinary.shape)
    ends = np.where(is_ordinary, length * np.arange(1, rows + 1)[:, None], place)
    return np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]


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
