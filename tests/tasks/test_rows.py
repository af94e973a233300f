"""Rows: buckets with the least padding, windows that cover, pairs that fit, batches by step."""

import itertools

import numpy as np
import pytest

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.prepared import TaskOrder
from bert_jax.tasks.rows import RowBuilder, bucket_lengths, truncated_pair, windows

NO_WORDS = np.zeros(100, bool)
VOCABULARY = Vocabulary(100, 0, 1, 2, 3, 4, is_special=NO_WORDS, starts_word=NO_WORDS)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_buckets_have_the_least_padding_of_all_choices(seed, count):
    lengths = np.random.default_rng(seed).integers(1, 60, 30)
    sizes = sorted(set((-(-lengths // 8) * 8).tolist()))

    def tokens(buckets):
        return sum(min(b for b in buckets if b >= length) for length in lengths)

    best = min(
        tokens((*chosen, sizes[-1]))
        for number in range(count)
        for chosen in itertools.combinations(sizes[:-1], number)
    )
    found = bucket_lengths(lengths, count)
    assert len(found) <= count
    assert found == sorted(set(found))
    assert tokens(found) == best


def test_windows_cover_everything_and_overlap():
    parts = windows(25, 10, 4)
    assert [(part.start, part.stop) for part in parts] == [(0, 10), (6, 16), (12, 22), (18, 25)]
    assert windows(10, 10, 4) == [slice(0, 10)]


@pytest.mark.parametrize(
    ("lengths", "kept"),
    [((10, 4), (6, 4)), ((4, 10), (4, 6)), ((20, 20), (5, 5)), ((3, 3), (3, 3))],
)
def test_the_longer_text_of_a_pair_is_cut(lengths, kept):
    first, second = truncated_pair(np.arange(lengths[0]), np.arange(lengths[1]), 10)
    assert (len(first), len(second)) == kept


def rows(count=50):
    builder = RowBuilder(VOCABULARY, 64)
    random = np.random.default_rng(0)
    for index in range(count):
        builder.add(index, np.full(random.integers(1, 40), 10 + index))
        builder.label(labels=index)
    return builder.build({"labels": np.int32})


def test_an_epoch_has_every_unit_once_and_steps_are_pure():
    batches = RowBatches(rows(), VOCABULARY, 8, seed=1, shapes=3)
    epoch = [batches.at(step) for step in range(len(batches))]
    seen = [int(x) for b in epoch for x in b["labels"][b["weight"] > 0]]
    assert sorted(seen) == list(range(50))
    assert {b["input_ids"].shape[1] for b in epoch} <= set(batches.buckets)
    again = RowBatches(rows(), VOCABULARY, 8, seed=1, shapes=3).at(5)
    np.testing.assert_array_equal(again["input_ids"], epoch[5]["input_ids"])
    second = [int(x) for step in range(7, 14) for x in batches.at(step)["labels"]]
    assert second != seen


def test_padding_rows_are_outside_of_every_document():
    batch = next(RowBatches(rows(3), VOCABULARY, 8, seed=0, shapes=1).in_order())[1]
    assert batch["weight"].tolist() == [1.0] * 3 + [0.0] * 5
    assert not batch["segment_ids"][3:].any()
    first = batch["input_ids"][0][batch["segment_ids"][0] > 0]
    assert first[0] == 2
    assert first[-1] == 3


def test_tasks_are_drawn_by_size_and_each_batch_comes_once():
    order = TaskOrder([900, 100], 1.0, 2000, seed=0)
    assert 0.85 < (order.task == 0).mean() < 0.95
    for task in range(2):
        of_task = order.batch[order.task == task]
        np.testing.assert_array_equal(of_task, np.arange(len(of_task)))
    assert abs((TaskOrder([900, 100], 0.0, 2000, seed=0).task == 0).mean() - 0.5) < 0.05
