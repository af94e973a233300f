import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.stream.units import LONGEST_SPAN, SPAN_SHARES, UNITS, choose
from tests.stream.tiny_stores import CLS, SEP, draw, vocabulary

LENGTH = 48
STARTS_WORD = vocabulary().starts_word.tolist()


def random_rows(seed: int, rows: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Ids and which are ordinary; the last two rows have words of up to the whole row."""
    generator = np.random.default_rng(seed)
    ids = generator.choice([5, 6, 9, 12, SEP], (rows, LENGTH), p=[0.3, 0.1, 0.2, 0.3, 0.1])
    ids[-2:, generator.integers(LENGTH) :] = 6  # continues a word
    ids[-1] = 6
    ids[:, 0] = CLS
    return ids.astype(np.int32), ~vocabulary().is_special[ids]


def chosen(unit: str, ids: np.ndarray, ordinary: np.ndarray, wanted: np.ndarray, seed: int):
    columns, is_chosen = choose(
        unit, ids, ordinary, wanted, wanted.max().item(), vocabulary(), draw(len(ids), seed)
    )
    return [set(row[ok].tolist()) for row, ok in zip(columns, is_chosen, strict=True)]


def words_of(ids: np.ndarray, ordinary: np.ndarray) -> list[list[int]]:
    """The columns of each word of a row, read token by token as google-research/bert does."""
    words: list[list[int]] = []
    for column, token in enumerate(ids):
        if not ordinary[column]:
            continue
        if column and ordinary[column - 1] and not STARTS_WORD[token]:
            words[-1].append(column)
        else:
            words.append([column])
    return words


def split_words_of(ids: np.ndarray, ordinary: np.ndarray, wanted: int) -> list[list[int]]:
    """The same; too long words are split into tokens if the others are not enough."""
    words = words_of(ids, ordinary)
    if sum(len(word) for word in words if len(word) <= wanted) >= wanted:
        return words
    return [
        part
        for word in words
        for part in ([word] if len(word) <= wanted else [[column] for column in word])
    ]


def in_random_order(words: list[list[int]], random: np.ndarray) -> list[list[int]]:
    return sorted(words, key=lambda word: (random[word[0]] >> 6, word[0]))


@pytest.mark.parametrize(
    ("unit", "expected"), [("token", {5, 4, 2}), ("word", {5, 6, 1}), ("span", {5, 2, 3})]
)
def test_the_example_of_the_docstring(unit, expected):
    ids = np.array([[CLS, 5, 5, 6, 6, 5, 5, SEP]], np.int32)  # 5 begins a word, 6 continues it
    scores = np.array([[5, 6, 3, 9, 2, 1, 4, 7]], np.uint32)
    four_words = np.uint32(np.cumsum(SPAN_SHARES)[3] * 2**32 - 1)
    lengths = np.array([[0, 0, four_words, 0, 0, 0, 0, 0]], np.uint32)
    numbers = {"positions": scores * np.uint32(8), "spans": lengths}
    columns, is_chosen = choose(
        unit,
        ids,
        ~vocabulary().is_special[ids],
        np.array([3]),
        3,
        vocabulary(),
        lambda purpose, width: numbers[purpose],
    )
    assert is_chosen.all()
    assert set(columns[0].tolist()) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, LENGTH))
def test_whole_words_are_chosen_as_by_berts_procedure(seed, wanted):
    ids, ordinary = random_rows(seed)
    random = draw(len(ids), seed)("positions", LENGTH)
    found = chosen("word", ids, ordinary, np.full(len(ids), wanted), seed)
    for row, columns in enumerate(found):
        budget = min(wanted, np.count_nonzero(ordinary[row]))
        slow: set[int] = set()
        for word in in_random_order(split_words_of(ids[row], ordinary[row], wanted), random[row]):
            if len(slow) + len(word) <= budget:
                slow.update(word)
        assert columns == slow


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, LENGTH))
def test_spans_are_chosen_as_by_spanberts_procedure(seed, wanted):
    ids, ordinary = random_rows(seed)
    random = draw(len(ids), seed)("positions", LENGTH)
    bounds = np.cumsum(SPAN_SHARES)[:-1] * 2**32
    lengths = 1 + np.searchsorted(bounds, draw(len(ids), seed)("spans", LENGTH))
    found = chosen("span", ids, ordinary, np.full(len(ids), wanted), seed)
    for row, columns in enumerate(found):
        budget = min(wanted, np.count_nonzero(ordinary[row]))
        words = split_words_of(ids[row], ordinary[row], wanted)
        slow: set[int] = set()
        for first in in_random_order(words, random[row]):
            if first[0] in slow:
                continue  # as SpanBERT: drawn anew
            span = words[words.index(first) :][: lengths[row, first[0]]]
            for column in itertools.chain.from_iterable(span):
                is_apart = not ordinary[row, first[0] : column].all()
                if is_apart or column in slow or len(slow) == budget:
                    break
                slow.add(column)
        assert columns == slow


@pytest.mark.parametrize("unit", UNITS)
def test_rows_of_one_long_word_are_masked_token_by_token(unit):
    ids = np.full((4000, 24), 6, np.int32)  # 6 continues a word
    ids[:, 0], ids[:, 20:] = CLS, 0
    ordinary = ~vocabulary().is_special[ids]
    found = chosen(unit, ids, ordinary, np.full(len(ids), 3), 0)
    assert {len(columns) for columns in found} == {3}
    counts = np.bincount(list(itertools.chain(*found)), minlength=24)
    assert np.all(counts[1:20] > 200)  # 632 each if all are alike; spans reach the first ones less


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("wanted", [1, 2, 5])
def test_every_row_with_text_has_something_to_predict(unit, wanted):
    ids, ordinary = random_rows(3, rows=60)
    ids[:20, 3:], ids[20:30, 1:] = 0, SEP  # short rows, and rows without text
    ordinary = ~vocabulary().is_special[ids]
    found = chosen(unit, ids, ordinary, np.full(len(ids), wanted), 3)
    for columns, row in zip(found, ordinary, strict=True):
        assert min(1, row.sum()) <= len(columns) <= wanted
        assert row[list(columns)].all()
    assert not any(found[20:30])


def test_span_lengths_are_geometric():
    assert np.isclose(SPAN_SHARES.sum(), 1)
    assert np.allclose(SPAN_SHARES[1:] / SPAN_SHARES[:-1], 0.8)
    assert np.isclose(SPAN_SHARES @ np.arange(1, LONGEST_SPAN + 1), 3.797, atol=1e-3)


@pytest.mark.parametrize("unit", ["word", "span"])
def test_every_token_is_reached(unit):
    ids, ordinary = random_rows(1)
    everything = chosen(unit, ids, ordinary, np.full(len(ids), LENGTH), 1)
    assert everything == [set(np.flatnonzero(row).tolist()) for row in ordinary]


def test_words_have_equal_chances():
    ids = np.full((20_000, 16), 6, np.int32)  # 6 continues a word, 5 begins one
    ids[:, [1, 2, 5, 7, 8, 9, 12, 13]] = 5
    ids[:, [0, 15]] = CLS, SEP
    ordinary = ~vocabulary().is_special[ids]
    columns, is_chosen = choose(
        "word", ids, ordinary, np.full(len(ids), 3), 3, vocabulary(), draw(len(ids))
    )
    first = columns[np.arange(len(ids)), 0]
    assert is_chosen[:, 0].all()
    # The first word that fits three tokens is equally often each one of these.
    starts = [1, 2, 5, 7, 8, 9, 12, 13]
    sizes = dict(zip(starts, np.diff([*starts, 15]), strict=True))
    counts = np.bincount(first, minlength=16)
    fitting = [start for start in starts if sizes[start] <= 3]
    expected = len(ids) / len(fitting)
    assert np.all(abs(counts[fitting] - expected) < 5 * np.sqrt(expected))
