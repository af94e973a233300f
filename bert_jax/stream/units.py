"""Which tokens of a row are masked: single tokens, whole words, or spans of words.

Every token gets a random score, and the tokens with the lowest scores are chosen. A worked example:
a row of 8 tokens, of which 3 are to be predicted.

    column           0      1    2    3     4    5    6     7
    token          [CLS]   the  un  ##hap ##py  cat  sat  [SEP]
    random score     5      6    3    9     2    1    4     7

`token`: special tokens get the largest number, so that they come last; then the scores are sorted:

    score            1    2    3    4    6    9   max  max
    column           5    4    2    6    1    3    0    7         chosen: 5, 4, 2

`word`: all tokens of a word have the score of its first one, so that they follow each other:

    score            1    3    3    3    4    6   max  max
    column           5    2    3    4    6    1    0    7

The first 3 would cut `un ##hap ##py`. As in google-research/bert, a word that no longer fits
is left out and the next one is tried: 5, 6, 1 are chosen.

`span`: words are tried by their scores, each as the beginning of a span of a random number of
words. Say one word for the span at `cat` and four for the one at `un`. `cat` is chosen; the second
span is `un ##hap ##py`, because it ends where it meets `cat`, and 2 of it are left to be predicted:
5, 2, 3 are chosen.

Score and column are packed into one integer, the column in the low bits (score 3 and column 2 are
3 * 8 + 2 = 26 here), because processors sort plain integers fast.

A word of more tokens than the row has predictions (DNA, base64, a script without spaces) can never
be chosen whole. Where the other words of the row are not enough, each of its tokens counts as a
word, so that every row with text has something to predict.
"""

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.randomness import Draw

UNITS = ("token", "word", "span")
_NEVER = np.uint32(0xFFFFFFFF)  # sorts last: a token that may not be chosen

# SpanBERT (Joshi et al., 2020): lengths in words are geometric with p = 0.2, and at most 10.
LONGEST_SPAN = 10
SPAN_SHARES = 0.8 ** np.arange(LONGEST_SPAN) / np.sum(0.8 ** np.arange(LONGEST_SPAN))
_SPAN_BOUNDS = (np.cumsum(SPAN_SHARES)[:-1] * 2**32).astype(np.uint32)


def choose(
    unit: str,
    ids: Int32[np.ndarray, "B L"],
    is_ordinary: Bool[np.ndarray, "B L"],
    num_to_predict: Int64[np.ndarray, "B"],
    predictions: int,
    vocabulary: Vocabulary,
    draw: Draw,
) -> tuple[UInt32[np.ndarray, "B {predictions}"], Bool[np.ndarray, "B {predictions}"]]:
    """Chooses the tokens of each row that are to be predicted.

    Args:
      unit: `token`: tokens, uniformly. `word`: whole words in random order, each one that still
        fits, as google-research/bert, so a row may have a few tokens less than `num_to_predict`.
        `span`: spans of words of geometric length, as SpanBERT, one after another, each from a
        random word that is not in a span yet; one ends early at a special token and at another
        span, and the last one is cut.
      ids: the tokens.
      is_ordinary: which of them may be chosen: all but special tokens.
      num_to_predict: how many to choose, 1 or more; all if there are fewer.
      predictions: P, at least the largest of `num_to_predict`.
      vocabulary: of the ids; says where words begin.
      draw: the random numbers of the rows.

    Returns:
      Columns in the order of choice, and which of the P are chosen: the first ones of each row, one
      at least if the row has an ordinary token.
    """
    score = draw("positions", ids.shape[1])
    if unit == "token":
        return _first(np.sort(_numbers(score, is_ordinary)), num_to_predict, predictions)
    # The words of all rows, one after another.
    is_begin = _word_begins(ids, is_ordinary, num_to_predict, vocabulary)
    begins = np.flatnonzero(is_begin)
    word = (np.cumsum(is_begin, dtype=np.int32) - 1).reshape(ids.shape)
    if unit == "word":
        numbers = _numbers(score.take(begins).take(word), is_ordinary)
        size = np.diff(begins, append=ids.size)
        order = _words_that_fit(numbers, word, size, num_to_predict)
        return _first(order, num_to_predict, predictions)
    order = np.sort(_numbers(score, is_ordinary & is_begin))
    length = 1 + np.searchsorted(_SPAN_BOUNDS, draw("spans", ids.shape[1]), side="right")
    word_ends = np.append(begins, np.full(LONGEST_SPAN, ids.size))[word + length]
    ends = np.minimum(word_ends, _text_ends(is_ordinary))
    is_in_span = _spans(order, ends, num_to_predict)
    is_chosen = np.arange(predictions) < np.count_nonzero(is_in_span, axis=1)[:, None]
    columns = np.zeros(is_chosen.shape, np.uint32)
    columns[is_chosen] = np.nonzero(is_in_span)[1]
    return columns, is_chosen


def _words_that_fit(
    numbers: UInt32[np.ndarray, "B L"],
    word: Int32[np.ndarray, "B L"],
    size: Int64[np.ndarray, "words"],
    num_to_predict: Int64[np.ndarray, "B"],
) -> UInt32[np.ndarray, "B L"]:
    """The sorted numbers without the words that the end of the choice would cut.

    Args:
      numbers: of the tokens; the tokens of a word have one score. Changed here.
      word: the word of each token.
      size: tokens of each word.
      num_to_predict: how many of the sorted numbers will be chosen.
    """
    order = np.sort(numbers)
    is_score = ~_low_bits(order.shape[1])
    rows = np.flatnonzero(num_to_predict < order.shape[1])
    while len(rows):
        last = order[rows, num_to_predict[rows] - 1] & is_score
        next_number = order[rows, num_to_predict[rows]]
        is_cut = (next_number != _NEVER) & (last == next_number & is_score)
        rows, cut = rows[is_cut], last[is_cut, None]
        # What is left for later words only shrinks from here on: with the word that is cut, drop at
        # once all later ones that are longer than what is left.
        left = num_to_predict[rows] - np.count_nonzero(order[rows] < cut, axis=1)
        score = numbers[rows] & is_score
        is_dropped = (score == cut) | ((score > cut) & (size.take(word[rows]) > left[:, None]))
        numbers[rows] = np.where(is_dropped, _NEVER, numbers[rows])
        order[rows] = np.sort(numbers[rows])
    return order


def _spans(
    order: UInt32[np.ndarray, "B L"],
    end: Int64[np.ndarray, "B L"],
    num_to_predict: Int64[np.ndarray, "B"],
) -> Bool[np.ndarray, "B L"]:
    """Which tokens are in spans, made in rounds: in each one, every row tries its next word.

    Args:
      order: the sorted numbers of the words.
      end: of a span that begins at a token; an index into the tokens of all rows.
      num_to_predict: tokens in spans.
    """
    length = order.shape[1]
    is_chosen = np.zeros(order.size, bool)
    left = num_to_predict.copy()
    trying = np.flatnonzero(left)
    for attempt in range(length):
        trying = trying[(order[trying, attempt] != _NEVER) & (left[trying] > 0)]
        if not len(trying):
            break
        column = (order[trying, attempt] & _low_bits(length)).astype(np.int64)
        begin = length * trying + column
        is_free = ~is_chosen[begin]
        row, begin = trying[is_free], begin[is_free]
        if not len(row):
            continue
        size = np.minimum(end.reshape(-1)[begin] - begin, left[row])
        # The tokens of all spans of this round in one list, span after span.
        first = np.cumsum(size) - size
        token = np.arange(size.sum()) + np.repeat(begin - first, size)
        # A span ends where it meets another one.
        met = np.minimum.reduceat(np.where(is_chosen[token], token, is_chosen.size), first)
        size_kept = np.minimum(size, met - begin)
        is_chosen[token[token < np.repeat(begin + size_kept, size)]] = True
        left[row] -= size_kept
    return is_chosen.reshape(order.shape)


def _text_ends(is_ordinary: Bool[np.ndarray, "B L"]) -> Int64[np.ndarray, "B L"]:
    """For each token the index, in the tokens of all rows, of the next special token or row."""
    rows, length = is_ordinary.shape
    token = np.arange(rows * length).reshape(is_ordinary.shape)
    ends = np.where(is_ordinary, length * np.arange(1, rows + 1)[:, None], token)
    return np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]


def _word_begins(
    ids: Int32[np.ndarray, "B L"],
    is_ordinary: Bool[np.ndarray, "B L"],
    num_to_predict: Int64[np.ndarray, "B"],
    vocabulary: Vocabulary,
) -> Bool[np.ndarray, "B L"]:
    """Which tokens begin a word; a special token counts as a word.

    So is each token of a word that is longer than `num_to_predict` of its row, if the row's other
    words have fewer tokens than that together.
    """
    is_begin = vocabulary.starts_word.take(ids) | ~is_ordinary
    is_begin[:, 1:] |= ~is_ordinary[:, :-1]
    is_begin[:, 0] = True

    # Such a row has few words: fewer than num_to_predict that fit, and each other one has more
    # tokens than that. Rows of usual text have more, so that few are looked at one by one.
    num_ordinary = is_ordinary.sum(axis=1, dtype=np.int32)
    num_special = ids.shape[1] - num_ordinary
    num_words = is_begin.sum(axis=1, dtype=np.int32) - num_special
    most_words = num_to_predict - 1 + num_ordinary // (num_to_predict + 1)
    for row in np.flatnonzero((num_words <= most_words) & (num_words < num_ordinary)):
        size = np.diff(np.flatnonzero(is_begin[row]), append=ids.shape[1])
        is_long = size > num_to_predict[row]
        if num_ordinary[row] - size[is_long].sum() < num_to_predict[row]:
            is_begin[row] |= np.repeat(is_long, size)
    return is_begin


def _numbers(
    score: UInt32[np.ndarray, "B L"], is_ordinary: Bool[np.ndarray, "B L"]
) -> UInt32[np.ndarray, "B L"]:
    """Score and column of each token in one integer; `_NEVER` where it may not be chosen."""
    length = score.shape[1]
    numbers = (score & ~_low_bits(length)) | np.arange(length, dtype=np.uint32)
    return numbers | ~is_ordinary * _NEVER  # a product is faster than np.where


def _first(
    order: UInt32[np.ndarray, "B L"], num_to_predict: Int64[np.ndarray, "B"], predictions: int
) -> tuple[UInt32[np.ndarray, "B {predictions}"], Bool[np.ndarray, "B {predictions}"]]:
    """Columns of the first P sorted numbers, and which of them are chosen."""
    first = order[:, :predictions]
    is_chosen = (np.arange(predictions) < num_to_predict[:, None]) & (first != _NEVER)
    return first & _low_bits(order.shape[1]), is_chosen


def _low_bits(length: int) -> np.uint32:
    """The bits that hold a column."""
    return np.uint32((1 << (length - 1).bit_length()) - 1)
