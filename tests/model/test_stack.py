"""The ways through the layers: all compute the same, with less memory or a smaller program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bert_jax.model import abstract, initialize
from bert_jax.model.stack import scan_loop
from tests.architectures import CLASSIC, MODERN
from tests.synthetic import random_batch

KEY = jax.random.key(7)
WAYS = [
    {"rematerialization": "dots"},
    {"rematerialization": "full"},
    {"layers": "scanned"},
    {"layers": "scanned", "rematerialization": "dots"},
    {"layers": "scanned", "rematerialization": "full"},
]
# A first layer apart, a group of two scanned twice, and one layer left over.
FAMILIES = {
    "classic": dataclasses.replace(CLASSIC, num_hidden_layers=2),
    "modern": dataclasses.replace(MODERN, num_hidden_layers=6, dropout=0.1),
}


def loss_of(config, rows=2, length=16):
    batch = jax.tree.map(jnp.asarray, random_batch(config.vocab_size, rows, length))
    structure, _ = abstract(config)

    def loss(params):
        bert = nnx.merge(structure, params)
        return bert.mlm_totals(bert.hidden(batch, KEY), batch, KEY).loss

    return jax.jit(jax.value_and_grad(loss))


@pytest.fixture(scope="module", params=FAMILIES)
def expected(request):
    config = FAMILIES[request.param]
    params = initialize(config, jax.random.key(0))
    return config, params, loss_of(config)(params)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_has_the_same_dropout_loss_and_gradients(expected, way):
    config, params, (loss, gradients) = expected
    found_loss, found = loss_of(dataclasses.replace(config, **way))(params)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(jnp.abs(b).max())))


def test_what_differs_stands_apart_and_what_repeats_is_scanned():
    def scanned(base, **changes):
        config = dataclasses.replace(base, layers="scanned", **changes)
        return scan_loop(config, range(config.num_hidden_layers))

    assert scanned(CLASSIC, num_hidden_layers=24) == (0, 1, 24)
    assert scanned(MODERN, num_hidden_layers=22, global_every=3) == (1, 3, 7)
    assert scanned(MODERN, num_hidden_layers=28, global_every=3) == (1, 3, 9)
    assert scanned(MODERN, num_hidden_layers=6, global_every=2) == (1, 2, 2)
    assert scanned(MODERN, num_hidden_layers=22, local_attention=0) == (1, 1, 21)


@pytest.mark.slow
def test_recomputing_needs_less_memory():
    deep = dataclasses.replace(
        CLASSIC,
        num_hidden_layers=6,
        hidden_size=48,
        intermediate_size=192,
        dropout=0.0,
        attention_dropout=0.0,
        layers="scanned",
    )
    params = abstract(deep)[1]

    def temporary_bytes(rematerialization):
        config = dataclasses.replace(deep, rematerialization=rematerialization)
        compiled = loss_of(config, rows=16, length=64).lower(params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    none, dots, full = (temporary_bytes(name) for name in ("none", "dots", "full"))
    assert none > 1.3 * dots > 1.3 * 1.3 * full


def test_a_scanned_program_multiplies_in_the_same_places_however_deep_it_is():
    def products(layers, depth):
        config = dataclasses.replace(CLASSIC, layers=layers, num_hidden_layers=depth)
        return loss_of(config).lower(abstract(config)[1]).as_text().count("dot_general")

    assert products("scanned", 6) == products("scanned", 3)
    assert products("unrolled", 6) > products("unrolled", 3)
