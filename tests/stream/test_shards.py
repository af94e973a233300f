import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.stream.shards import Windows, by_shard, columns_from, search, source_sizes, take

ARRAYS = [
    np.arange(10, 17, dtype=np.uint16),
    np.arange(20, 22, dtype=np.uint16),
    np.arange(30, 60, dtype=np.uint16),
]
shard_numbers = st.lists(st.integers(0, 2), max_size=12).map(lambda rows: np.array(rows, np.int64))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 40)), max_size=12))
def test_windows_go_round_in_their_shard(places):
    shard, start = np.array(places, np.int64).reshape(-1, 2).T
    tokens = Windows(ARRAYS, 5).read(shard, start)
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [
        [ARRAYS[number][(begin + i) % len(ARRAYS[number])] for i in range(5)]
        for number, begin in places
    ]


def test_windows_over_memory_maps_are_copies_of_what_is_asked_for(tmp_path):
    np.save(tmp_path / "tokens.npy", ARRAYS[2])
    mapped = np.asarray(np.load(tmp_path / "tokens.npy", mmap_mode="r"))
    found = Windows([mapped], 5).read(np.zeros(2, int), np.array([0, 25]))
    found += 1
    assert found.tolist() == [[31, 32, 33, 34, 35], [56, 57, 58, 59, 60]]
    assert mapped[0] == 30


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=8))
def test_columns_begin_where_each_row_says(first):
    rows = np.arange(9 * len(first)).reshape(-1, 9)
    found = columns_from(rows, np.array(first, np.int64), 5)
    assert found.shape == (len(first), 5)
    assert found.tolist() == [rows[i, begin : begin + 5].tolist() for i, begin in enumerate(first)]


@settings(max_examples=60, deadline=None)
@given(shard_numbers)
def test_every_row_is_in_the_group_of_its_shard(shard):
    seen = np.full(len(shard), -1)
    numbers = []
    for number, rows in by_shard(3, shard):
        assert np.all(seen[rows] == -1)
        seen[rows] = number
        numbers.append(number)
    assert np.array_equal(seen, shard)
    assert numbers == sorted(set(shard.tolist()))


@settings(max_examples=60, deadline=None)
@given(shard_numbers, st.integers(15, 65))
def test_entries_and_places_are_those_of_the_shard_of_the_row(shard, value):
    groups = by_shard(3, shard)
    index = np.arange(len(shard)) % 2
    assert take(ARRAYS, groups, index).tolist() == [
        ARRAYS[number][place] for number, place in zip(shard, index, strict=True)
    ]
    pairs = np.stack([index, 1 - index], axis=1)
    assert take(ARRAYS, groups, pairs).tolist() == [
        ARRAYS[number][places].tolist() for number, places in zip(shard, pairs, strict=True)
    ]
    sorted_arrays = [array.astype(np.int64) for array in ARRAYS]
    assert search(sorted_arrays, groups, np.full(len(shard), value)).tolist() == [
        sum(entry < value for entry in sorted_arrays[number].tolist()) for number in shard
    ]


def test_a_single_shard_needs_no_groups():
    shard = np.zeros(3, np.int64)
    assert take(ARRAYS, by_shard(1, shard), np.array([2, 0, 2])).tolist() == [12, 10, 12]


def test_sizes_of_sources_are_those_of_their_shards_together():
    sources = ["a", "a", "b", "c", "c"]
    sizes = source_sizes(sources, np.array([3, 5, 5, 6, 10]))
    assert list(sizes.items()) == [("a", 5), ("b", 0), ("c", 5)]
