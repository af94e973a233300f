"""Evaluations take a fixed spread of a split, each batch from one source."""

import dataclasses

import numpy as np
import pytest

from bert_jax.config import default_config
from bert_jax.corpus.store import Split
from bert_jax.stream.evaluation import MASK_ONLY, MIXED, EvaluationBatches
from bert_jax.training.objectives import OBJECTIVES
from tests.stream.tiny_stores import random_shards

PACKED = OBJECTIVES["packed"].from_config(default_config())


@pytest.fixture(scope="module")
def mixed(store):
    """A held-out split of a large source, a small one and one that gives a single row."""
    shards = (
        *random_shards(1, 120, 3),
        *random_shards(2, 12, 1),
        *random_shards(3, 1, 1),
    )
    split = Split(shards, ("wiki", "wiki", "wiki", "web", "notes"))
    return dataclasses.replace(store, splits=store.splits | {"heldout": split})


def rows_of(batches):
    """The unmasked rows of an evaluation without the padding, by source."""
    found: dict[str, list[bytes]] = {}
    for index in range(len(batches)):
        batch = batches.batch(index)
        ids = batch["input_ids"].copy()
        rows, places = np.nonzero(batch["masked_weights"])
        ids[rows, batch["masked_positions"][rows, places]] = batch["masked_labels"][rows, places]
        is_row = batch["segment_ids"].any(axis=1)
        found.setdefault(batches.source(index), []).extend(row.tobytes() for row in ids[is_row])
    return found


def test_every_source_has_its_share_of_a_short_evaluation(mixed):
    whole = rows_of(EvaluationBatches(mixed, "heldout", PACKED, 32, 8))
    some = EvaluationBatches(mixed, "heldout", PACKED, 32, 8, most=4)
    rows = rows_of(some)
    assert list(rows) == list(whole) == ["wiki", "web", "notes"]
    size = sum(map(len, whole.values()))
    for source, of_source in rows.items():
        assert len(of_source) == -(-len(whole[source]) * 32 // size)
        assert set(of_source) <= set(whole[source])
    # Spread over the source from its first row to its end, not its first rows.
    places = [whole["wiki"].index(row) for row in rows["wiki"]]
    gaps = np.diff([*places, len(whole["wiki"])])
    assert gaps.max() <= gaps.min() + 1


def test_a_spread_that_is_larger_than_the_split_is_the_split(mixed):
    whole = EvaluationBatches(mixed, "heldout", PACKED, 32, 8)
    assert rows_of(EvaluationBatches(mixed, "heldout", PACKED, 32, 8, most=10**6)) == rows_of(whole)


def test_an_example_is_masked_alike_in_a_short_and_a_whole_evaluation(mixed):
    def masks(batches):
        return {
            batch["input_ids"][row].tobytes()
            for batch in map(batches.batch, range(len(batches)))
            for row in range(8)
        }

    whole = masks(EvaluationBatches(mixed, "heldout", PACKED, 32, 8))
    assert masks(EvaluationBatches(mixed, "heldout", PACKED, 32, 8, most=4)) <= whole


def test_both_kinds_of_masks_are_at_the_same_positions(mixed):
    of_kinds = [
        EvaluationBatches(mixed, "heldout", PACKED, 32, 8, replacements=kind).batch(0)
        for kind in (MIXED, MASK_ONLY)
    ]
    for name in ("masked_positions", "masked_labels", "masked_weights"):
        np.testing.assert_array_equal(of_kinds[0][name], of_kinds[1][name])
    shares = []
    for batch in of_kinds:
        rows, places = np.nonzero(batch["masked_weights"])
        ids = batch["input_ids"][rows, batch["masked_positions"][rows, places]]
        shares.append((ids == mixed.vocabulary.mask_id).mean())
    assert shares[1] == 1.0
    assert 0.5 < shares[0] < 1.0
