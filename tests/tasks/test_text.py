"""Rows of texts and pairs: segments, windows, and how many texts were cut."""

import numpy as np
import pytest

from bert_jax.tasks import cache
from bert_jax.tasks.base import TRAIN
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.rows import pair_windows
from bert_jax.tasks.text import mean_of_units, mean_of_windows
from tests.tasks.examples import records, task

LONG = "a book " * 40
PAIR = {"data.text_pair": "other"}


def rows_of(tokenizer, texts, **fields):
    classes = task("classification", **fields)
    classes.labels = ["x"]
    return classes, classes.features(
        records(*({**row, "label": "x"} for row in texts)), tokenizer, TRAIN
    )


def test_the_second_text_of_a_pair_is_of_the_second_segment(tokenizer):
    _, rows = rows_of(tokenizer, [{"text": "one", "other": "the other"}], **PAIR)
    batch = next(RowBatches(rows, tokenizer.vocabulary, 1, seed=0, shapes=1).in_order())[1]
    ids, types = batch["input_ids"][0], batch["token_type_ids"][0]
    ends = np.flatnonzero(ids == tokenizer.vocabulary.sep_id)
    expected = np.zeros(len(ids), int)
    expected[ends[0] + 1 : ends[1] + 1] = 1  # padding is of the first one
    np.testing.assert_array_equal(types, expected)


@pytest.mark.parametrize("fields", [{}, PAIR])
def test_texts_that_are_cut_are_counted_and_windows_cut_none(fields, tokenizer, tmp_path):
    texts = [{"text": LONG, "other": "short"}, {"text": "short", "other": "short"}]
    cutting, cut = rows_of(tokenizer, texts, max_length=32, **fields)
    assert (len(cut), cut.cut) == (2, 1)
    note = cutting.cut_note(cut.cut, 2, "train")
    assert "1 of 2 examples of train (50.0%) are longer than config.max_length=32" in note
    assert "config.stride" in note
    cache.write(tmp_path / "rows.npz", cut)
    assert cache.read(tmp_path / "rows.npz").cut == 1

    _, divided = rows_of(tokenizer, texts, max_length=32, stride=8, **fields)
    assert divided.cut == 0
    assert (divided.example == 0).sum() > 3
    assert max(divided.lengths) <= 32
    found = mean_of_units(np.arange(len(divided), dtype=float)[:, None], divided, 2)
    assert found[:, 0].tolist() == [(len(divided) - 2) / 2, len(divided) - 1]
    both = [{"text": LONG, "other": LONG}]
    assert rows_of(tokenizer, both, max_length=32, stride=8, **fields)[1].cut == (fields == PAIR)


def test_windows_of_several_texts_are_units_side_by_side(tokenizer):
    """A context beside two candidates, of which one leaves less room and so has more windows."""
    choice = task("multiple_choice", max_length=32, stride=8)
    examples = records(
        {"text": LONG, "choices": ["a", "a short book"], "label": 1},
        {"text": "short", "choices": ["a", "b"], "label": 0},
    )
    choice.learn(examples)
    rows = choice.features(examples, tokenizer, TRAIN)
    assert rows.cut == 0
    assert max(rows.lengths) <= 32
    is_new = rows.of_unit["is_new"]
    windows = is_new[rows.example == 0].sum(axis=0)
    assert windows[1] == len(rows) - 1 > windows[0] > 1
    assert rows.of_unit["labels"].tolist() == [1] * windows[1] + [0]
    logits = np.arange(2.0 * len(rows)).reshape(-1, 2)
    found = mean_of_windows(logits, rows, 2)
    assert found[0].tolist() == [logits[: windows[0], 0].mean(), logits[:-1, 1].mean()]
    assert found[1].tolist() == logits[-1].tolist()


@pytest.mark.parametrize(("mode", "divides"), [("regression", True), ("contrastive", False)])
def test_the_vector_of_a_long_text_is_the_mean_of_its_windows(mode, divides, tokenizer):
    similar = task("similarity", similarity=mode, max_length=32, stride=8, **PAIR)
    examples = records(
        {"text": LONG, "other": "short", "label": 1}, {"text": "a", "other": "b", "label": 0}
    )
    similar.learn(examples)
    assert (len(similar.features(examples, tokenizer, TRAIN)) > 2) == divides
    rows = similar.features(examples, tokenizer)
    vectors = np.zeros((len(rows), 2, 3))
    vectors[:, 1, 0] = 1.0  # the second text of all
    vectors[0, 0, 0], vectors[1:, 0, 1] = 1.0, 1.0
    number = len(rows) - 1  # of windows: one as the second text, the others at a right angle to it
    first, second = similar.predictions({"vectors": vectors}, rows, examples)
    assert first["score"] == pytest.approx(1 / np.hypot(1, number - 1))
    assert second["score"] == pytest.approx(0.0)


def test_the_longer_text_of_a_pair_is_divided():
    short, long = np.arange(4), np.arange(100, 130)
    for first, second in ((short, long), (long, short)):
        parts = pair_windows(first, second, 14, 2)
        assert all(len(a) + len(b) <= 14 for a, b in parts)
        at = 0 if first is short else 1
        assert all((part[at] == short).all() for part in parts)
        assert sorted({*np.concatenate([part[1 - at] for part in parts])}) == long.tolist()
    assert pair_windows(short, short, 8, 2) == [(short, short)]
