"""An objective with a teacher in the step: on any mesh, and with other sizes than the student's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.model import ModelConfig, abstract, initialize
from bert_jax.training import sharding
from bert_jax.training.frozen import Frozen
from bert_jax.training.objectives.distillation import Teacher
from bert_jax.training.preflight import check
from bert_jax.training.step import compile_steps
from tests.architectures import MODERN
from tests.synthetic import random_batch

ROWS = 16
STUDENT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "next_sentence": False,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


VOCAB = 96
WIDER = dataclasses.replace(
    MODERN, vocab_size=VOCAB, hidden_size=24, num_attention_heads=4, num_hidden_layers=2
)


@functools.cache
def teacher_of(model: ModelConfig) -> Teacher:
    """One with opinions: parameters that are far from their initial size."""
    params = jax.tree.map(lambda leaf: 4 * leaf, initialize(model, jax.random.key(9)))
    return Teacher("teachers/one@3", model, Frozen(params), "fingerprint", "vocabulary")


def config_of(**fields):
    config = default_config()
    config.stream.sequence_length, config.global_batch_size = 32, ROWS
    config.total_steps, config.warmup_steps, config.learning_rate = 100, 0, 1e-2
    config.model.update(STUDENT)
    config.distillation.update(teacher="teachers/one@3", relation_heads=4, mlm_weight=1e-3)
    for name, value in fields.items():
        group, _, last = name.replace("__", ".").rpartition(".")
        (config[group] if group else config)[last] = value
    return config


def settings_of(teacher=None, **fields):
    return parse(config_of(**fields), teacher or teacher_of(WIDER))


@functools.cache
def compiled(**fields):
    """The mesh, the settings and the steps; compiled once."""
    settings = settings_of(**fields)
    devices = jax.devices() if any("mesh" in name for name in fields) else jax.devices()[:1]
    mesh = sharding.make_mesh(settings.training.mesh, devices)
    steps = compile_steps(settings.training, settings.model_config(VOCAB), mesh)
    return mesh, settings, steps


def trained(seeds, **fields):
    """The state after a few steps, and the totals of each."""
    mesh, _, steps = compiled(**fields)
    state, history = steps.init(), []
    for seed in seeds:
        batch = random_batch(VOCAB, ROWS, seed=seed)
        del batch["next_sentence_label"]
        state, figures = steps.train(state, sharding.place_batch(mesh, batch, ROWS))
        history.append(jax.device_get(figures.totals))
    return jax.device_get(state), history


def test_a_smaller_student_learns_relations_and_predictions_of_the_teacher():
    state, history = trained([1] * 12)
    means = [
        {name: totals.loss / totals.weight for name, totals in of_step.items()}
        for of_step in history
    ]
    assert set(means[0]) == {"mlm", "relations", "soft"}
    assert means[-1]["relations"] < 0.9 * means[0]["relations"]
    assert means[-1]["soft"] < 0.9 * means[0]["soft"]
    assert state.params["encoder"]["embeddings"]["tokens"]["embedding"].shape == (VOCAB, 16)


@pytest.mark.slow
def test_the_gradient_is_that_of_the_student_alone():
    settings = settings_of()
    objective = settings.objective
    model = settings.model_config(VOCAB)
    structure, _ = abstract(model)
    batch = jax.tree.map(jnp.asarray, random_batch(VOCAB, 4))

    def loss(params, frozen):
        found = objective.given(frozen).totals(
            nnx.merge(structure, params), batch, jax.random.key(0)
        )
        return found["relations"].loss + found["soft"].loss

    params = initialize(model, jax.random.key(1))
    ours, theirs = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, settings.teacher.frozen.params)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(theirs)) == 0.0
    assert float(jnp.abs(ours["encoder"]["layers"][0]["attention"]["qkv"]["kernel"]).max()) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"mesh__data": 4, "mesh__fsdp": 2, "mesh__micro_batches": 2},
        {"mesh__data": 2, "mesh__fsdp": 2, "mesh__tensor": 2},
    ],
    ids=str,
)
def test_mesh_and_micro_batches_do_not_change_the_run(fields, monkeypatch):
    monkeypatch.setattr("bert_jax.model.cross_entropy.CPU_BLOCK_BYTES", 4 * VOCAB * 3)
    for one, other in zip(trained(range(2), **fields)[1], trained(range(2))[1], strict=True):
        for name in one:
            np.testing.assert_allclose(one[name].loss, other[name].loss, rtol=2e-5)
            np.testing.assert_allclose(one[name].weight, other[name].weight)


def test_an_evaluation_has_the_figures_of_a_run_without_teacher():
    mesh, _, steps = compiled()
    placed = sharding.place_batch(mesh, random_batch(VOCAB, ROWS), ROWS)
    found = steps.evaluate(steps.init().params, placed)
    assert set(found) == {"mlm"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"relation_heads": 5}, r"relation_heads is 5: it must divide .*hidden_size=16 and 24"),
        ({"teacher_layer": 3}, r"teacher_layer is 3, and the teacher teachers/one@3 has 2 layers"),
        ({"temperature": 0.0}, "distillation.temperature is 0.0: set it above 0"),
        ({"soft_weight": -1.0}, r"distillation.soft_weight is -1.0: set it to 0 or more"),
        ({"soft_weight": 0.0, "relation_weight": 0.0}, "set one of them, or no teacher"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    named = {f"distillation__{name}": value for name, value in fields.items()}

    def checked():
        settings = settings_of(**named)
        mesh = sharding.make_mesh(settings.training.mesh)
        check(settings.training, settings.stream.phases, settings.models(VOCAB), mesh)

    with pytest.raises(UserError, match=message):
        checked()
