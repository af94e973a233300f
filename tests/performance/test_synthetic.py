"""Random batches have the shape of real ones."""

import jax
import numpy as np
import pytest

from bert_jax.config import default_config, parse
from bert_jax.performance.synthetic import random_batches
from bert_jax.training import sharding
from bert_jax.training.step import abstract_batch

VOCAB = 100


def made(objective):
    config = default_config()
    config.stream.objective, config.stream.short_fraction = objective, 0.5
    settings = parse(config)
    (phase,) = settings.stream.phases
    return settings, phase, random_batches(settings.objective, phase, VOCAB, count=2)[1]


@pytest.mark.parametrize("objective", ["packed", "nsp", "sop"])
def test_batch_has_the_types_and_shapes_of_the_contract(objective):
    settings, phase, batch = made(objective)
    mesh = sharding.make_mesh(settings.training.mesh)
    expected = abstract_batch(settings.objective, mesh, phase)
    shapes = jax.tree.map(lambda array: (array.shape, array.dtype), batch)
    assert shapes == {name: (array.shape, array.dtype) for name, array in expected.items()}


@pytest.mark.parametrize("objective", ["packed", "nsp"])
def test_predictions_stand_ascending_on_text(objective):
    _, phase, batch = made(objective)
    is_text = batch["segment_ids"] > 0
    for row in range(phase.global_batch_size):
        count = int(batch["masked_weights"][row].sum())
        positions = batch["masked_positions"][row]
        assert count == round(phase.mask_rate * is_text[row].sum())
        assert (np.diff(positions[:count]) > 0).all()
        assert is_text[row, positions[:count]].all()
        assert (positions[count:] == 0).all()


def test_packed_rows_are_full_of_documents():
    batch = made("packed")[2]
    segments, positions = batch["segment_ids"], batch["position_ids"]
    is_text = segments > 0
    assert is_text.mean() > 0.95
    assert segments.max() > 2
    begins = np.diff(segments, axis=1) == 1
    np.testing.assert_array_equal((positions == 0)[:, 1:] & is_text[:, 1:], begins)
    assert (np.diff(positions, axis=1)[~begins & is_text[:, 1:]] == 1).all()


def test_some_pairs_are_padded():
    batch = made("nsp")[2]
    sizes = batch["segment_ids"].sum(axis=1)
    assert sizes.min() < sizes.max() == batch["input_ids"].shape[1]
    assert set(np.unique(batch["token_type_ids"])) == {0, 1}
