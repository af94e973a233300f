"""Losses by value: smoothed labels, weighted classes, hard negatives; one step in bfloat16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.config.finetuning import parse
from bert_jax.tasks.base import TRAIN
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.evaluation import place
from bert_jax.tasks.losses import contrastive, smoothed_cross_entropy
from bert_jax.training import sharding
from bert_jax.training.settings import MeshSettings, TrainingSettings
from bert_jax.training.step import SKIPPED, compile_steps
from tests.architectures import CLASSIC
from tests.runs import kept_programs
from tests.tasks.examples import config, records, task

LOGITS = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))


def test_a_smoothed_label_spreads_its_share_over_all_classes():
    found = smoothed_cross_entropy(LOGITS, jnp.array([1]), jnp.ones(1), 0.3)
    target = np.array([0.1, 0.8, 0.1])
    np.testing.assert_allclose(found.loss, -(target * np.log([0.5, 0.3, 0.2])).sum(), rtol=1e-6)
    assert found.metrics["accuracy"] == 0.0


def test_balanced_classes_weigh_the_same_in_all():
    """scikit-learn's weights: examples / (classes * examples of the class)."""
    classes = task("classification", class_weights="balanced")
    classes.learn(records(*({"text": "a", "label": label} for label in "xxxy")))
    np.testing.assert_allclose(classes.class_weights, [4 / (2 * 3), 4 / (2 * 1)])
    batch = {"weight": jnp.array([1.0, 1, 1, 1, 0]), "labels": jnp.array([0, 0, 0, 1, 1])}
    assert classes.counts(batch)["classification"] == pytest.approx(4.0)  # padding has no weight


def test_hard_negatives_are_rows_of_their_unit(tokenizer):
    fields = {"data.text_pair": "other", "data.text_negative": "not"}
    similar = task("similarity", similarity="contrastive", **fields)
    examples = records({"text": "a", "other": "b", "not": "c"})
    assert similar.features(examples, tokenizer, TRAIN).group == 3
    assert similar.features(examples, tokenizer).group == 2  # predictions need none


def test_hard_negatives_are_among_the_candidates_and_padding_is_not():
    first, second = [1.0, 0.0], [0.0, 1.0]
    vectors = jnp.array(  # text, pair, negative: that of the first unit is as near as its pair
        [[first, first, first], [second, second, [0.0, -1.0]], [first, first, first]]
    )
    found = contrastive(vectors, jnp.array([1.0, 1.0, 0.0]), 0.5)
    cosines = np.array([[1, 0, 1, 0], [0, 1, 0, -1]]) / 0.5  # with the pairs, then the negatives
    expected = np.log(np.exp(cosines).sum(axis=1)) - np.diag(cosines)
    np.testing.assert_allclose(found.loss, expected.sum(), rtol=1e-5)
    assert found.weight == 2.0


@pytest.fixture(scope="module")
def several(tokenizer):
    """Two tasks over one encoder, computed in bfloat16: their steps and batches."""
    entries = ({"name": "one"}, {"name": "two", "label_smoothing": 0.1})
    settings = parse(config(tasks=entries, learning_rate=1e-2, head_learning_rate=2e-2))
    model = dataclasses.replace(
        CLASSIC,
        vocab_size=tokenizer.vocabulary.size,
        next_sentence=False,
        rows="padded",
        compute_dtype="bfloat16",
    )
    mesh = sharding.make_mesh(MeshSettings())
    found = []
    labelled = records(*({"text": f"{label} text", "label": label} for label in "xy"))
    for each in settings.tasks:  # the steps of each task hold the heads of all
        each.learn(labelled)
    for each in settings.tasks:
        rows = each.features(labelled, tokenizer, TRAIN)
        batch = RowBatches(rows, tokenizer.vocabulary, 8, seed=0, shapes=1).at(0)
        training = TrainingSettings(0, each, settings.optimizer_settings(10, model), settings.mesh)
        found.append((compile_steps(training, model, mesh), place(mesh, batch)))
    return found


def heads_of(state, name):
    """The parameters of a head and their moments, by name."""
    return {
        jax.tree_util.keystr(path): np.array(leaf)  # a copy: the state is donated
        for path, leaf in jax.tree.leaves_with_path((state.params, state.opt_state))
        if f"'{name}'" in jax.tree_util.keystr(path)
    }


def test_a_step_in_bfloat16_leaves_the_heads_of_other_tasks_alone(several):
    (one, of_one), (two, of_two) = several
    with kept_programs():
        state, _ = one.train(one.init(), of_one)
        before = heads_of(state, "one"), heads_of(state, "two")
        state, figures = two.train(state, of_two)
    assert figures.scalars[SKIPPED] == 0.0
    assert np.isfinite(figures.totals["two"].loss)
    assert state.params["heads"]["two"]["classifier"]["kernel"].dtype == jnp.float32
    after = heads_of(state, "one"), heads_of(state, "two")
    assert len(before[0]) == 3 * 4  # dense and classifier: parameters and two moments
    for name, value in before[0].items():
        np.testing.assert_array_equal(after[0][name], value, err_msg=name)
    assert any((after[1][name] != value).any() for name, value in before[1].items())
