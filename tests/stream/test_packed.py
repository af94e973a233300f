import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split
from bert_jax.stream.packed import PackedExamples
from bert_jax.stream.rows import Batch
from tests.stream.tiny_stores import CLS, SEP, draw, numbered_split, random_split, texts, vocabulary

lengths = st.lists(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=4), max_size=8))


def epoch_of(split: Split, length: int, epoch: int) -> Batch:
    examples = PackedExamples(split, vocabulary(), length)
    size = examples.sizes["all"]
    return examples.rows(np.arange(size), np.full(size, epoch), draw(size))


@settings(max_examples=60, deadline=None)
@given(lengths.filter(any), st.integers(8, 40), st.integers(0, 1000))
def test_every_token_once_an_epoch_in_the_order_of_its_document(parts, length, epoch):
    split = numbered_split(parts)
    batch = epoch_of(split, length, epoch)
    seen = batch["input_ids"][batch["input_ids"] > SEP]
    everything = np.concatenate(texts(split))
    assert np.array_equal(np.sort(seen), everything)
    # The windows go round each shard once: from token to token the id grows by one, except where
    # the circle closes.
    for text in texts(split):
        inside = seen[(seen >= text[0]) & (seen <= text[-1])]
        assert np.count_nonzero(np.diff(inside) != 1) <= 1


@settings(max_examples=60, deadline=None)
@given(lengths.filter(any), st.integers(8, 40), st.integers(0, 1000))
def test_segments_are_framed_parts_of_one_document(parts, length, epoch):
    split = numbered_split(parts)
    document_of = {i: d for d, text in enumerate(texts(split)) for i in text}
    batch = epoch_of(split, length, epoch)
    for ids, segments, positions in zip(
        batch["input_ids"], batch["segment_ids"], batch["position_ids"], strict=True
    ):
        used = np.count_nonzero(segments)
        assert np.all(segments[:used] > 0)
        assert np.all(np.diff(segments[:used]) >= 0)
        for array in (ids, segments, positions):
            assert not array[used:].any()
        assert set(segments[:used]) == set(range(1, segments.max() + 1))
        for segment in range(1, segments.max() + 1):
            part = ids[segments == segment]
            assert part[0] == CLS
            assert part[-1] == SEP
            text = part[1:-1]
            assert len(text) >= 1
            assert len({document_of[i] for i in text}) == 1
            assert np.all(np.diff(text) == 1)
            assert np.array_equal(positions[segments == segment], np.arange(len(part)))


def test_the_example_of_the_docstring():
    a, b, c, d, e, f, g, h = range(5, 13)
    split = numbered_split([[[4], [4]]])
    assert epoch_of(split, 8, 0)["input_ids"].tolist() == [
        [CLS, a, b, c, d, SEP, 0, 0],
        [CLS, e, f, g, h, SEP, 0, 0],
    ]
    assert epoch_of(split, 8, 1)["input_ids"].tolist() == [
        [CLS, c, d, SEP, CLS, e, f, SEP],
        [CLS, g, h, SEP, CLS, a, b, SEP],
    ]


def test_cuts_move_between_epochs():
    split = random_split(3, 60, 1)
    first_tokens = {epoch_of(split, 32, epoch)["input_ids"][1].tobytes() for epoch in range(20)}
    assert len(first_tokens) == 20


@pytest.mark.parametrize("length", [128, 512])
def test_rows_are_full(length):
    generator = np.random.default_rng(0)
    split = numbered_split([generator.integers(5, 60, (500, 20)).tolist()])
    batch = epoch_of(split, length, 1)
    assert np.mean(batch["segment_ids"] > 0) > 0.98


def test_any_rows_may_be_asked_for_in_any_order():
    split = random_split(4, 30, 3)
    whole = epoch_of(split, 24, 2)
    examples = PackedExamples(split, vocabulary(), 24)
    some = np.array([examples.sizes["all"] - 1, 0, 5, 5])
    rows = examples.rows(some, np.full(4, 2), draw(4))
    for name, array in rows.items():
        assert np.array_equal(array, whole[name][some])


def test_a_split_without_documents_is_refused():
    with pytest.raises(UserError, match=r"config\.corpus\.source"):
        PackedExamples(Split((), ()), vocabulary(), 16)


def test_documents_of_any_shard_are_reached():
    split = numbered_split([[[5]], [], [[6], [7]]])
    batch = epoch_of(split, 64, 0)
    assert [row[row > SEP].tolist() for row in batch["input_ids"]] == list(
        itertools.chain([list(range(5, 10))], [list(range(10, 23))])
    )
