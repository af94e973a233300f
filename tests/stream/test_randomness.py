import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.stream.randomness import below, bits


@settings(max_examples=50, deadline=None)
@given(
    first=st.integers(0, 2**40),
    cut=st.integers(0, 9),
    rows=st.integers(9, 12),
    width=st.integers(0, 40),
)
def test_rows_are_the_same_however_they_are_asked_for(first, cut, rows, width):
    whole = bits(3, "purpose", first, rows, width)
    parts = (
        bits(3, "purpose", first, cut, width),
        bits(3, "purpose", first + cut, rows - cut, width),
    )
    assert np.array_equal(whole, np.concatenate(parts))


def test_seeds_purposes_and_widths_are_unrelated():
    draws = [bits(1, "a", 0, 50, 16), bits(2, "a", 0, 50, 16), bits(1, "b", 0, 50, 16)]
    draws.append(bits(1, "a", 0, 50, 24)[:, :16])
    for i, one in enumerate(draws):
        for other in draws[:i]:
            assert np.count_nonzero(one == other) == 0


def test_every_bit_is_fair():
    draw = bits(0, "purpose", 10**12, 4000, 8)
    for bit in range(32):
        ones = np.count_nonzero(draw >> np.uint32(bit) & np.uint32(1), axis=0)
        assert np.all(abs(ones - 2000) < 5 * np.sqrt(1000))


def test_below_covers_its_range_evenly():
    values = below(bits(0, "purpose", 0, 7000, 8), 7)
    counts = np.bincount(values.ravel())
    assert len(counts) == 7
    assert np.all(abs(counts - 8000) < 5 * np.sqrt(8000))


def test_bits_never_change():
    assert bits(7, "positions", 10**9, 2, 3).tolist() == [
        [2679682213, 2441948860, 921896162],
        [3704585661, 1389928475, 776114955],
    ]
