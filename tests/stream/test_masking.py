import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.stream.masking import Masker, max_predictions
from bert_jax.stream.rows import Batch
from bert_jax.stream.units import UNITS
from tests.stream.tiny_stores import CLS, SEP, draw, vocabulary

BERT = (0.8, 0.1)


def rows_of(used: np.ndarray, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ids [CLS] ... [SEP] with some [SEP] and [UNK] inside, and their segments."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, 64, (len(used), length)).astype(np.int32)
    ids[draw.random(ids.shape) < 0.1] = SEP
    ids[draw.random(ids.shape) < 0.05] = 1
    ids[:, 0] = CLS
    segments = (np.arange(length) < used[:, None]).astype(np.int32)
    return ids * segments, segments


def masked(
    ids: np.ndarray,
    segments: np.ndarray,
    rate: float = 0.15,
    shares: tuple[float, float] = BERT,
    unit: str = "token",
    seed: int = 0,
) -> Batch:
    masker = Masker(vocabulary(), unit, *shares)
    predictions = max_predictions(rate, ids.shape[1])
    return masker.mask(ids, segments, rate, predictions, draw(len(ids), seed))


def test_the_example_of_the_docstring():
    the, cat, sat, on, it, now = range(10, 16)
    dog = 5 + int(0.3 * 59)  # the 59 ordinary ids begin at 5; 0.83 is at 0.3 of [0.8, 0.9)
    ids = np.array([[CLS, the, cat, sat, on, it, now, SEP]], np.int32)
    numbers = {
        "positions": np.array([[9, 9, 1, 9, 9, 9, 0, 9]], np.uint32) * 8,
        "replacements": (np.array([[0.31, 0.83, 0.5]]) * 2**32).astype(np.uint32),
    }
    assert max_predictions(0.3, 8) == 3
    batch = Masker(vocabulary(), "token", *BERT).mask(
        ids, np.ones_like(ids), 0.3, 3, lambda purpose, width: numbers[purpose]
    )
    assert batch["input_ids"].tolist() == [[CLS, the, 4, sat, on, it, dog, SEP]]
    assert batch["masked_positions"].tolist() == [[2, 6, 0]]
    assert batch["masked_labels"].tolist() == [[cat, now, 0]]
    assert batch["masked_weights"].tolist() == [[1, 1, 0]]


def slow_count(rate: float, tokens: int, ordinary: int, predictions: int) -> int:
    """create_pretraining_data.py: min(max_predictions, max(1, int(round(n * prob))))."""
    return min(predictions, max(1, round(tokens * rate)), ordinary)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([0.05, 0.15, 0.3, 0.5, 1.0]),
    st.sampled_from([(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]),
    st.sampled_from(UNITS),
    st.integers(0, 100),
)
def test_laws(used, rate, shares, unit, seed):
    ids, segments = rows_of(np.array(used), 40, seed)
    batch = masked(ids, segments, rate, shares, unit, seed)
    special = vocabulary().is_special
    predictions = max_predictions(rate, 40)
    assert batch["masked_positions"].shape == (len(used), predictions)
    for row, used_tokens in enumerate(used):
        weights = batch["masked_weights"][row]
        count = np.count_nonzero(weights)
        ordinary = np.count_nonzero(~special[ids[row]] & (segments[row] > 0))
        wanted = slow_count(rate, used_tokens, ordinary, predictions)
        assert min(1, ordinary) <= count <= wanted
        assert unit == "word" or count == wanted
        assert np.all(weights[:count] == 1)
        positions = batch["masked_positions"][row]
        assert np.all(np.diff(positions[:count]) > 0)
        assert not positions[count:].any()
        labels = batch["masked_labels"][row]
        assert np.array_equal(labels[:count], ids[row, positions[:count]])
        assert not labels[count:].any()
        assert not special[labels[:count]].any()
        untouched = np.ones(40, bool)
        untouched[positions[:count]] = False
        assert np.array_equal(batch["input_ids"][row, untouched], ids[row, untouched])
        placed = batch["input_ids"][row, positions[:count]]
        assert np.all(~special[placed] | (placed == 4))
    assert np.array_equal(ids, rows_of(np.array(used), 40, seed)[0])


@pytest.mark.parametrize("shares", [(0.8, 0.1), (1.0, 0.0), (0.5, 0.5), (0.0, 0.0)])
def test_shares_of_replacements(shares):
    ids, segments = rows_of(np.full(4000, 64), 64)
    batch = masked(ids, segments, shares=shares)
    chosen = batch["masked_weights"] > 0
    placed = np.take_along_axis(batch["input_ids"], batch["masked_positions"], axis=1)[chosen]
    labels = batch["masked_labels"][chosen]
    n = len(labels)

    def within_bounds(count: int, share: float) -> bool:
        least, most = scipy.stats.binom.interval(1 - 1e-9, n, share)
        return least <= count <= most

    # A random token is the old one in 1 of 59 cases.
    mask_replace_prob, random_replace_prob = shares
    kept_share = 1 - mask_replace_prob - random_replace_prob + random_replace_prob / 59
    assert within_bounds(np.count_nonzero(placed == 4), mask_replace_prob)
    assert within_bounds(np.count_nonzero(placed == labels), kept_share)


def test_random_tokens_are_uniform_over_the_ordinary_ones():
    ids, segments = rows_of(np.full(4000, 64), 64)
    batch = masked(ids, segments, shares=(0.0, 1.0))
    chosen = batch["masked_weights"] > 0
    placed = np.take_along_axis(batch["input_ids"], batch["masked_positions"], axis=1)[chosen]
    counts = np.bincount(placed, minlength=64)
    expected = len(placed) / 59
    assert not counts[:5].any()
    assert np.all(abs(counts[5:] - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize("length", [16, 33, 128])
def test_positions_are_uniform_over_the_ordinary_tokens(length):
    ids = np.full((6000, length), 9, np.int32)
    ids[:, [0, length // 2, length - 1]] = CLS, SEP, SEP
    batch = masked(ids, np.ones_like(ids))
    positions = batch["masked_positions"][batch["masked_weights"] > 0]
    counts = np.bincount(positions, minlength=length)
    expected = len(positions) / (length - 3)
    ordinary = np.delete(np.arange(length), [0, length // 2, length - 1])
    assert len(positions) == counts[ordinary].sum()
    assert np.all(abs(counts[ordinary] - expected) < 5 * np.sqrt(expected))


def test_pairs_of_positions_are_chosen_independently():
    ids = np.full((20_000, 8), 9, np.int32)
    batch = masked(ids, np.ones_like(ids), 0.25)
    pairs = np.bincount(batch["masked_positions"] @ [8, 1], minlength=64)
    expected = 20_000 / 28
    chosen = pairs[pairs > 0]
    assert len(chosen) == 28
    assert np.all(abs(chosen - expected) < 5 * np.sqrt(expected))


def test_predictions_have_room_for_the_rate():
    assert [max_predictions(0.15, length) for length in (20, 128, 512)] == [3, 20, 77]
    assert max_predictions(0.07, 100) == 7
    assert max_predictions(1.0, 32) == 32
