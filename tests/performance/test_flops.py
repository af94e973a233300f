"""The FLOP count of a training step, against the program that computes it."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from bert_jax import model as model_lib
from bert_jax.config import default_config
from bert_jax.model import ModelConfig
from bert_jax.performance import flops
from tests.synthetic import random_batch

ROWS, LENGTH, PREDICTIONS, VOCAB = 2, 64, 9, 512


def classic() -> ModelConfig:
    model = default_config().model
    model.hidden_size, model.intermediate_size, model.num_hidden_layers = 128, 512, 2
    model.next_sentence = False  # its head is left out of the count
    return ModelConfig(VOCAB, **model.to_dict())


def modern() -> ModelConfig:
    return dataclasses.replace(
        classic(),
        position="rotary",
        norm="pre",
        feed_forward="geglu",
        use_bias=False,
        token_types=0,
        intermediate_size=256,
    )


FAMILIES = {"classic": classic, "modern": modern}


def loss_and_inputs(model: ModelConfig):
    structure, params = model_lib.abstract(model)
    batch = random_batch(VOCAB, ROWS, LENGTH, PREDICTIONS)

    def loss(params, batch):
        bert = nnx.merge(structure, params)
        return bert.mlm_totals(bert.hidden(batch), batch).loss

    return loss, params, batch


def matrix_products(jaxpr) -> int:
    """FLOPs of all matrix products of a program, 2 for a multiply-add."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * depth * math.prod(equation.outvars[0].aval.shape)
        total += sum(matrix_products(inner) for inner in jaxprs_in_params(equation.params))
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_count_is_that_of_the_matrix_products_forward_and_backward(family):
    model = FAMILIES[family]()
    loss, params, batch = loss_and_inputs(model)
    program = jax.make_jaxpr(jax.grad(loss))(params, jax.tree.map(jnp.asarray, batch))
    segments = ROWS * 2 * LENGTH * model.token_types * model.hidden_size  # their gradient alone
    expected = ROWS * flops.training(model, LENGTH, PREDICTIONS) + segments
    assert matrix_products(program.jaxpr) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_count_is_most_of_what_xla_counts(family):
    """XLA also counts norms, softmax and activations: at most 15 % at this width."""
    model = FAMILIES[family]()
    loss, params, batch = loss_and_inputs(model)
    counted = jax.jit(loss).lower(params, batch).cost_analysis()["flops"]
    forward = ROWS * flops.training(model, LENGTH, PREDICTIONS) / 3
    assert forward <= counted <= 1.15 * forward


def test_local_layers_count_their_window_alone():
    everywhere = classic()
    local = dataclasses.replace(everywhere, local_attention=16, global_every=2)
    saved = 3 * 2 * 2 * everywhere.hidden_size * LENGTH * (LENGTH - 16)  # one of the two layers
    counts = [flops.training(model, LENGTH, PREDICTIONS) for model in (everywhere, local)]
    assert counts[0] - counts[1] == saved


def test_a_batch_counts_its_documents_and_predictions_and_no_padding():
    model = dataclasses.replace(classic(), local_attention=16, global_every=2)
    batch = {
        "segment_ids": np.repeat([[1, 2, 0], [1, 1, 2]], [20, 40, 4], axis=1),  # 20 + 40, 60 + 4
        "masked_weights": np.array([[1, 1, 0], [1, 0, 0]], np.float32),
    }
    width, inner = model.hidden_size, model.intermediate_size
    dense = 2 * 124 * (4 * width**2 + 2 * width * inner)  # of two layers, 124 tokens
    pairs_global = 20**2 + 40**2 + 60**2 + 4**2
    pairs_local = 16 * (20 + 40 + 60) + 4 * 4
    attention = 2 * width * (pairs_global + pairs_local)
    head = 3 * (width**2 + width * VOCAB)
    assert flops.of_batch(model, batch) == 6 * (dense + attention + head)


@pytest.mark.parametrize(
    ("kind", "dtype", "expected"),
    [
        ("TPU v5 lite", "bfloat16", 197e12),  # "TPU v5" is its prefix
        ("NVIDIA A100-SXM4-80GB", "float32", 156e12),
        ("TPU v4", "float32", None),
        ("cpu", "float32", None),
    ],
)
def test_peak_is_that_of_the_closest_name(kind, dtype, expected):
    assert flops.peak(kind, dtype) == expected
