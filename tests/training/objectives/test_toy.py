"""A new objective is one class and one registration: this one is written outside the package."""

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.config import default_config, parse
from bert_jax.inspect_batches import readable_row
from bert_jax.model import Totals
from bert_jax.run.metrics import summarize
from bert_jax.stream.batches import TrainBatches
from bert_jax.training import sharding
from bert_jax.training.objectives import OBJECTIVES
from bert_jax.training.objectives.base import Objective, Ratio, masked_lm_shapes
from bert_jax.training.step import abstract_batch, compile_steps
from tests.stream.tiny_stores import MemoryStore, numbered_split, random_split


class CountDocuments(Objective):
    """Regression: how many documents does a row hold? A loss that no other objective has."""

    rows = "packed"

    def __init__(self, weight):
        self.loss_weights = {"count": weight}

    @classmethod
    def from_config(cls, config):
        return cls(weight=0.5)

    def examples(self, split, vocabulary, sequence_length, *, is_training):
        return OBJECTIVES["packed"]().examples(
            split, vocabulary, sequence_length, is_training=is_training
        )

    def batch_shapes(self, phase):
        return masked_lm_shapes(phase)

    def counts(self, batch):
        return {"count": (batch["segment_ids"][:, 0] > 0).sum().astype(jnp.float32)}

    def losses(self, model, hidden, batch, key):
        found = hidden[:, 0, 0]
        wanted = batch["segment_ids"].max(axis=1).astype(jnp.float32)
        weight = (wanted > 0).astype(jnp.float32)
        error = (found - wanted) * weight
        metrics = {"absolute_error": jnp.abs(error).sum()}
        return {"count": Totals((error**2).sum(), metrics, weight.sum())}

    def inspect_row(self, batch, row):
        segments = batch["segment_ids"][row]
        return f"{segments.max()} documents", ["row"] * int((segments > 0).sum())

    def inspect_batch(self, batch):
        return {"rows": Ratio(len(batch["segment_ids"]), 1, ".0f")}


def test_a_registered_objective_is_trained_measured_and_shown(monkeypatch, tmp_path):
    monkeypatch.setitem(OBJECTIVES, "count_documents", CountDocuments)
    config = default_config()
    config.stream.objective, config.stream.sequence_length = "count_documents", 32
    config.global_batch_size, config.total_steps, config.warmup_steps = 8, 40, 1
    config.learning_rate = 1e-2
    config.model.update(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config.model.update(next_sentence=False, dropout=0.0, attention_dropout=0.0)
    settings = parse(config)
    splits = {"train": random_split(1, 41, 1), "heldout": numbered_split([[[4]]])}
    store = MemoryStore(tmp_path, {}, splits)
    batches = TrainBatches(store, settings.stream)
    mesh = sharding.make_mesh(settings.training.mesh)
    steps = compile_steps(settings.training, settings.model_config(store.vocabulary.size), mesh)
    expected = abstract_batch(settings.objective, mesh, settings.stream.phases[0])
    state, losses = steps.init(), []
    for step in range(40):
        batch = batches.batch(step)
        assert {name: array.shape for name, array in batch.items()} == {
            name: array.shape for name, array in expected.items()
        }
        state, figures = steps.train(state, sharding.place_batch(mesh, batch, 8))
        losses.append(summarize(jax.device_get(figures.totals), settings.objective.loss_weights))
    assert set(losses[0]) == {"loss", "count_loss", "count_absolute_error"}
    assert losses[0]["loss"] == 0.5 * losses[0]["count_loss"]
    assert np.mean([figures["loss"] for figures in losses[-5:]]) < 0.5 * losses[0]["loss"]
    text = readable_row(batch, 0, settings.objective, store.vocabulary, str, has_colors=False)
    assert f"; {batch['segment_ids'][0].max()} documents\n  row: " in text
