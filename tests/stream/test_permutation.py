import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.stream.permutation import permute
from bert_jax.stream.randomness import key


def order(size: int, epoch: int = 0, seed: int = 0) -> np.ndarray:
    positions = np.arange(size)
    return permute(positions, np.full(size, epoch), size, key(seed, "order"))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), epoch=st.integers(0, 10**6), seed=st.integers(0, 99))
def test_every_example_once(size, epoch, seed):
    assert np.array_equal(np.sort(order(size, epoch, seed)), np.arange(size))


@settings(max_examples=30, deadline=None)
@given(size=st.integers(2, 2**62), position=st.integers(0, 2**62))
def test_results_are_in_range_at_any_size(size, position):
    positions = np.array([position % size, 0, size - 1])
    result = permute(positions, np.arange(3), size, key(0, "order"))
    assert np.all((result >= 0) & (result < size))


def test_epochs_and_seeds_have_unrelated_orders():
    orders = [order(2000, epoch, seed) for epoch in range(3) for seed in range(3)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            # Two random orders agree at one position on average; 12 is beyond a Poisson's 1e-9.
            assert np.count_nonzero(one == other) <= 12


def test_positions_of_different_epochs_may_be_asked_together():
    positions, epochs = np.arange(90), np.arange(90) % 3
    together = permute(positions, epochs, 90, key(0, "order"))
    apart = np.choose(epochs, [order(90, epoch) for epoch in range(3)])
    assert np.array_equal(together, apart)


@pytest.mark.parametrize("size", [97, 10_000, 65_537])
def test_order_is_spread(size):
    values = order(size).astype(float)
    # Correlations of a random order are normal with deviation 1 / sqrt(size).
    bound = 5 / np.sqrt(size)
    assert abs(np.corrcoef(values, np.arange(size))[0, 1]) < bound
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < bound
    assert abs(np.corrcoef(values[2:], values[:-2])[0, 1]) < bound


def test_places_of_an_example_are_uniform_over_the_epochs():
    size, epochs = 7, 7000
    positions = np.tile(np.arange(size), epochs)
    values = permute(positions, np.repeat(np.arange(epochs), size), size, key(3, "order"))
    counts = np.zeros((size, size))
    np.add.at(counts, (positions, values), 1)
    expected = epochs / size
    assert np.all(abs(counts - expected) < 5 * np.sqrt(expected))


def test_order_never_changes():
    assert order(11).tolist() == [6, 3, 0, 10, 7, 4, 1, 9, 8, 5, 2]
    places = permute(np.arange(4), np.arange(4), 10**12, key(5, "order"))
    assert places.tolist() == [109266442647, 662594981511, 409400535380, 614737633960]
