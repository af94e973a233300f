import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.corpus.store import Shard
from bert_jax.stream.windows import BLOCK, DocumentWindows
from tests.stream.tiny_stores import numbered_split, random_shards

sentences = st.lists(st.integers(1, 30), min_size=1, max_size=5)


def slowly(shards: tuple[Shard, ...], longest: int) -> list[tuple[int, int, int, int]]:
    """Shard, document, number and count of every window, by going through all documents."""
    found = []
    for number, shard in enumerate(shards):
        borders = itertools.pairwise(shard.document_offsets.tolist())
        for document, (begin, end) in enumerate(borders):
            if np.diff(shard.document_sentences)[document] >= 2:
                count = -(-(end - begin - 2) // longest)
                found += [(number, document, window, count) for window in range(count)]
    return found


def assert_found(shards: tuple[Shard, ...], longest: int) -> None:
    windows = DocumentWindows(shards, longest)
    expected = slowly(shards, longest)
    assert windows.ends.tolist() == [
        sum(place[0] <= number for place in expected) for number in range(len(shards))
    ]
    found = windows.find(np.arange(len(expected)))
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
    assert windows.shard_of(np.arange(len(expected))).tolist() == [place[0] for place in expected]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(sentences, max_size=4), min_size=1, max_size=5), st.integers(5, 40))
def test_every_window_of_few_documents_is_found(parts, longest):
    assert_found(numbered_split(parts).shards, longest)


def test_every_window_of_many_documents_is_found():
    for documents in (BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 5 * BLOCK + 3):
        assert_found(random_shards(documents, 2 * documents, 2), 20)


def test_windows_may_be_asked_for_in_any_order():
    windows = DocumentWindows(random_shards(1, 100, 3), 20)
    index = np.random.default_rng(0).permutation(windows.ends[-1])
    ordered = windows.find(np.arange(windows.ends[-1]))
    for column, of_ordered in zip(windows.find(index), ordered, strict=True):
        assert np.array_equal(column, of_ordered[index])
