"""The step: the same loss, gradients and update on any mesh and in any number of parts."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bert_jax import model as model_lib
from bert_jax.config import changed, default_config, parse
from bert_jax.model import ModelConfig
from bert_jax.training import sharding
from bert_jax.training.step import SKIPPED, compile_steps, split_rows
from tests.architectures import make_modern
from tests.synthetic import random_batch

VOCAB, BATCH = 256, 16


def small_config(**mesh):
    config = default_config()
    config.stream.objective = "nsp"
    config.total_steps, config.warmup_steps, config.learning_rate = 100, 1, 1e-3
    config.model.hidden_size, config.model.num_hidden_layers = 32, 2
    config.model.num_attention_heads, config.model.intermediate_size = 4, 64
    config.model.dropout = config.model.attention_dropout = 0.0
    config.mesh.update(mesh)
    return config


def fast_config():
    """A config that learns fast, for tests that share one compiled program."""
    config = small_config(data=8)
    config.learning_rate = 1e-2
    return config


def modern(config):
    make_modern(config.model)
    config.optimizer.name = "muon"


_compiled: dict = {}


def compiled(config):
    """The mesh and the steps of a config; compiled once for all tests."""
    key = config.to_json()
    if key not in _compiled:
        settings = parse(config).training
        mesh = sharding.make_mesh(settings.mesh)
        model = ModelConfig(VOCAB, **config.model.to_dict())
        _compiled[key] = mesh, compile_steps(settings, model, mesh)
    return _compiled[key]


def run(config, batches):
    """The state and the figures after a few steps, on the host."""
    mesh, steps = compiled(config)
    state, history = steps.init(), []
    for batch in batches:
        state, figures = steps.train(state, sharding.place_batch(mesh, batch, BATCH))
        history.append(figures)
    return jax.device_get(state), [flat(figures) for figures in jax.device_get(history)]


def flat(figures):
    """`mlm_loss`, `mlm_count`, `mlm_accuracy`, ..., sums all of them, and the scalars."""
    sums = dict(figures.scalars)
    for name, totals in figures.totals.items():
        sums |= {f"{name}_loss": totals.loss, f"{name}_count": totals.weight}
        sums |= {f"{name}_{metric}": value for metric, value in totals.metrics.items()}
    return sums


def batches(count=3):
    return [random_batch(VOCAB, BATCH, seed=seed) for seed in range(count)]


def assert_same_run(one, other):
    """Equal up to the order of float32 sums: 1e-5 relative, and as much of the largest entry."""
    for name in one[1][0]:
        np.testing.assert_allclose(
            [sums[name] for sums in one[1]], [sums[name] for sums in other[1]], rtol=2e-5
        )
    # Adam turns rounding noise in tiny gradients into steps of the learning rate's size, so the
    # parameters are compared on that scale.
    for (path, a), b in zip(
        jax.tree.leaves_with_path(one[0].params), jax.tree.leaves(other[0].params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-4, err_msg=jax.tree_util.keystr(path))


MESHES = [
    {"data": 8},
    {"data": 1, "fsdp": 8},
    {"data": 2, "tensor": 4},
    {"data": 2, "fsdp": 2, "tensor": 2},
]


def family_config(family, head, **mesh):
    config = small_config(**mesh)
    config.model.head, config.model.sampled_negatives = head, 64
    if family == "modern":
        modern(config)
    return config


def loss_and_gradients(config):
    """The function of parameters and a batch, to be compiled."""
    structure, _ = model_lib.abstract(ModelConfig(VOCAB, **config.model.to_dict()))

    def loss(params, batch):
        bert = nnx.merge(structure, params)
        mlm = parse(config).objective.totals(bert, batch, jax.random.key(1))["mlm"]
        return mlm.loss / mlm.weight

    return jax.value_and_grad(loss)


@functools.cache
def on_one_device(family, head):
    """Parameters, and their loss and gradients on one device."""
    config = family_config(family, head)
    params = model_lib.initialize(ModelConfig(VOCAB, **config.model.to_dict()), jax.random.key(3))
    found = jax.jit(loss_and_gradients(config))(params, random_batch(VOCAB, BATCH))
    return params, jax.device_get(found)


@pytest.mark.parametrize(
    ("mesh", "family", "head"),
    [
        *itertools.product(MESHES, ["classic", "modern"], ["full"]),
        *itertools.product([MESHES[-1]], ["modern"], ["blocked", "adaptive", "sampled"]),
    ],
    ids=str,
)
def test_loss_and_gradients_on_a_mesh_equal_those_on_one_device(mesh, family, head, monkeypatch):
    monkeypatch.setattr("bert_jax.model.cross_entropy.CPU_BLOCK_BYTES", 0)
    monkeypatch.setattr("bert_jax.model.cross_entropy.LEAST_BLOCK", 8)  # several blocks a device
    params, expected = on_one_device(family, head)
    config = family_config(family, head, **mesh)
    function = loss_and_gradients(config)
    devices = sharding.make_mesh(parse(config).training.mesh)

    def on_mesh(params, batch):
        with jax.sharding.use_abstract_mesh(devices.abstract_mesh):
            return function(params, batch)

    shardings = sharding.parameter_shardings(devices, params)
    rows = sharding.batch_sharding(devices)
    found = jax.jit(on_mesh, in_shardings=(shardings, rows))(
        jax.device_put(params, shardings),
        sharding.place_batch(devices, random_batch(VOCAB, BATCH), BATCH),
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("family", [pytest.param("classic", marks=pytest.mark.slow), "modern"])
def test_micro_batches_with_different_counts_do_not_change_the_run(family):
    whole, parts = small_config(data=2, fsdp=2, tensor=2), small_config(data=4, tensor=2)
    parts.mesh.micro_batches = 4
    if family == "modern":
        modern(whole)
        modern(parts)
    for config in (whole, parts):  # the same elements are dropped
        config.model.update(dropout=0.2, attention_dropout=0.2)
    given = batches()
    counts = split_rows(jnp.asarray(given[0]["masked_weights"]), 4).sum((1, 2))
    assert len(set(counts.tolist())) > 1  # a mean of means would differ
    assert_same_run(run(whole, given), run(parts, given))


def test_parts_of_a_batch_are_its_rows_and_stay_on_their_device():
    rows = jnp.arange(12)
    assert split_rows(rows, 3).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_loss_is_a_sum_over_the_predictions_that_count():
    config = small_config()
    model = ModelConfig(VOCAB, **config.model.to_dict())
    structure, _ = model_lib.abstract(model)
    params = model_lib.initialize(model, jax.random.key(0))
    batch = random_batch(VOCAB, BATCH)
    objective = parse(config).objective

    @jax.jit
    def logits_and_totals(params, batch):
        bert = nnx.merge(structure, params)
        return bert(batch).mlm_logits, objective.totals(bert, batch, None)["mlm"]

    logits, mlm = logits_and_totals(params, batch)
    log_probabilities = np.asarray(jax.nn.log_softmax(logits))
    expected = -sum(
        log_probabilities[b, p, batch["masked_labels"][b, p]]
        for b, p in np.argwhere(batch["masked_weights"])
    )
    assert mlm.weight == batch["masked_weights"].sum()
    np.testing.assert_allclose(mlm.loss, expected, rtol=1e-5)


def test_padding_rows_of_an_evaluation_count_for_nothing():
    config = small_config()
    model = ModelConfig(VOCAB, **config.model.to_dict())
    structure, _ = model_lib.abstract(model)
    params = model_lib.initialize(model, jax.random.key(0))
    batch = random_batch(VOCAB, BATCH)
    first = {name: array[:10] for name, array in batch.items()}
    padded = {name: array.copy() for name, array in batch.items()}
    padded["masked_weights"][10:] = 0
    padded["next_sentence_label"][10:] = -1
    objective = parse(config).objective
    totals = jax.jit(
        lambda params, batch: objective.totals(nnx.merge(structure, params), batch, None)
    )
    expected, found = totals(params, first), totals(params, padded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


@pytest.mark.slow
def test_dropout_depends_on_seed_and_step_alone_not_on_the_mesh():
    runs = []
    for mesh in ({"data": 8}, {"data": 2, "fsdp": 2, "tensor": 2}):
        config = small_config(**mesh)
        config.model.dropout = config.model.attention_dropout = 0.3
        runs.append(run(config, batches(2)))
    assert_same_run(*runs)
    config.seed = 1
    assert abs(run(config, batches(1))[1][0]["mlm_loss"] - runs[0][1][0]["mlm_loss"]) > 0.1


def test_bfloat16_keeps_parameters_optimizer_and_losses_in_float32():
    config = small_config(data=8)
    config.model.compute_dtype = "bfloat16"
    mesh, steps = compiled(config)
    batch = sharding.place_batch(mesh, batches(1)[0], BATCH)
    state, figures = jax.eval_shape(steps.train, steps.abstract_state, batch)
    kept = [leaf.dtype for leaf in jax.tree.leaves((state, figures))]
    assert set(kept) <= {np.dtype("float32"), np.dtype("int32")}


def lowered_step(config):
    mesh, steps = compiled(config)
    batch = sharding.place_batch(mesh, batches(1)[0], BATCH)
    return steps, steps.train.lower(steps.abstract_state, batch)


@pytest.mark.parametrize(
    ("family", "way"),
    [
        ("classic", {}),
        ("modern", {}),
        ("classic", {"head": "sampled", "sampled_negatives": 16}),
        ("modern", {"head": "adaptive"}),
        ("classic", {"head": "full", "layers": "scanned", "rematerialization": "full"}),
        ("modern", {"rematerialization": "dots"}),
    ],
    ids=str,
)
def test_a_bfloat16_step_multiplies_in_it_and_does_all_else_that_matters_in_float32(family, way):
    config = small_config(data=8)
    config.model.update(way)
    config.model.compute_dtype = "bfloat16"
    config.model.next_sentence = False  # that head is float32
    config.stream.objective = "packed"
    if family == "modern":
        modern(config)
        config.optimizer.name = "adamw"  # Muon's products are of the optimizer, float32
    text = lowered_step(config)[1].as_text()
    products = re.findall(r"stablehlo\.dot_general.* : \((.*), (.*)\) -> (.*)", text)
    assert len(products) > 20
    # The gradient of the segment table: sums over tokens by segment, as a product with one-hots.
    one_hot = f"tensor<{BATCH}x32x{config.model.token_types}xf32>"
    for x, y, result in products:
        if one_hot in (x, y):
            continue
        assert "xbf16>" in x
        assert "xbf16>" in y
        assert "xf32>" in result
    # Softmax, norms and the loss; the gradients' sums over rows and devices; the optimizer.
    for operation in ("exponential", "log", "rsqrt", "sqrt", "power", "reduce"):
        assert not re.search(rf"stablehlo\.{operation}[ (].*bf16", text), operation


def test_the_step_writes_the_new_state_over_the_old_one():
    steps, lowered = lowered_step(fast_config())
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(steps.abstract_state))
    memory = lowered.compile().memory_analysis()
    assert memory.alias_size_in_bytes >= whole


def test_two_runs_are_equal_to_the_bit():
    config = fast_config()
    one, other = run(config, batches()), run(config, batches())
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_runs_with_other_seeds_share_the_compiled_functions():
    config = fast_config()
    config.model.dropout = 0.1
    mesh, steps = compiled(config)
    batch = sharding.place_batch(mesh, batches(1)[0], BATCH)
    steps.train(steps.init(), batch)

    compilations = []

    def count(event, *_, **__):
        if "backend_compile" in event:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        other = steps.with_seed(3)
        found = other.train(other.init(), batch)
        assert not compilations
        _, of_seed = compiled(changed(config, {"seed": 3}))
        expected = of_seed.train(of_seed.init(), batch)
        assert compilations  # the listener hears of them
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    (_, figures), (_, of_first) = found, steps.train(steps.init(), batch)
    assert figures.totals["mlm"].loss != of_first.totals["mlm"].loss


@pytest.mark.parametrize("family", ["classic", "modern"])
def test_an_update_that_is_not_finite_is_left_out(family):
    config = fast_config()
    if family == "modern":
        modern(config)
    good = batches(2)
    bad = good[0] | {"masked_weights": np.full_like(good[0]["masked_weights"], np.inf)}
    mesh, steps = compiled(config)
    state, _ = steps.train(steps.init(), sharding.place_batch(mesh, good[0], BATCH))
    before = jax.device_get(state)
    state, figures = steps.train(state, sharding.place_batch(mesh, bad, BATCH))
    assert figures.scalars[SKIPPED] == 1
    after = jax.device_get(state)
    assert after.step == before.step + 1
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    floats = [
        (a, b)
        for a, b in zip(
            jax.tree.leaves(after.opt_state), jax.tree.leaves(before.opt_state), strict=True
        )
        if a.dtype == np.float32
    ]
    assert floats
    for a, b in floats:
        np.testing.assert_array_equal(a, b)
    state, figures = steps.train(state, sharding.place_batch(mesh, good[1], BATCH))
    assert figures.scalars[SKIPPED] == 0
    assert np.isfinite(figures.totals["mlm"].loss)


def test_training_learns_a_batch_by_heart():
    batch = batches(1)[0]
    _, history = run(fast_config(), [batch] * 40)
    assert history[-1]["mlm_loss"] < 0.2 * history[0]["mlm_loss"]
    assert history[-1]["nsp_accuracy"] == BATCH


@pytest.mark.slow
def test_grad_norm_is_reported_before_clipping():
    config = small_config(data=8)
    free, clipped = config.copy_and_resolve_references(), config
    free.optimizer.clip_norm, clipped.optimizer.clip_norm = 0.0, 1e-3
    given = batches(1)
    assert run(free, given)[1][0]["grad_norm"] == run(clipped, given)[1][0]["grad_norm"] > 0.1
