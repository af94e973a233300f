import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.corpus.filters import dedup
from bert_jax.corpus.filters.dedup import document_hash, first_occurrences


@given(st.lists(st.lists(st.integers(0, 20), max_size=15), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_first_of_equal_hashes_is_kept(lists):
    with_slices = [np.array(values, np.uint64) for values in lists]
    seen = set()
    expected = []
    for values in lists:
        expected.append([value not in seen and not seen.add(value) for value in values])
    everything = [np.ones(len(values), bool) for values in lists]
    assert [mask.tolist() for mask in first_occurrences(with_slices, everything)] == expected
    original = dedup._HASHES_AT_ONCE
    dedup._HASHES_AT_ONCE = 4
    try:
        assert [mask.tolist() for mask in first_occurrences(with_slices, everything)] == expected
    finally:
        dedup._HASHES_AT_ONCE = original


def test_hashes_stay_the_same_for_ever():
    assert document_hash(["Hello.", "World"]) == 5447349746758805187
    assert document_hash(["漢字"]) == 17646712929260475210
