"""The choices of softmax: which equal the full one, what the others estimate, what they cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bert_jax.common.errors import UserError
from bert_jax.interop.configs import architecture
from bert_jax.model import ModelConfig, abstract
from bert_jax.model import cross_entropy as softmax
from bert_jax.model.cross_entropy import Regularizers, blocked_cross_entropy, cross_entropy
from bert_jax.model.heads import HEADS
from bert_jax.model.sampled_softmax import sample_ranks, sampled_cross_entropy
from tests.architectures import CLASSIC, MODERN

ROWS, PREDICTIONS, WIDTH, VOCAB = 8, 7, 12, 60


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of at most eight predictions."""
    monkeypatch.setattr(softmax, "CPU_BLOCK_BYTES", 0)
    monkeypatch.setattr(softmax, "LEAST_BLOCK", 8)


def arguments(weights=None, rows=ROWS, vocabulary=VOCAB):
    keys = jax.random.split(jax.random.key(0), 5)
    shape = (rows, PREDICTIONS)
    if weights is None:
        weights = (jax.random.uniform(keys[4], shape) < 0.4) * 2.0
    return (
        jax.random.normal(keys[0], (*shape, WIDTH)),
        jax.random.normal(keys[1], (vocabulary, WIDTH)),
        jax.random.normal(keys[2], (vocabulary,)),
        jax.random.randint(keys[3], shape, 0, vocabulary),
        weights,
    )


def full_loss(x, table, bias, labels, weights):
    return cross_entropy(x @ table.T + bias, labels, weights).loss / 3


def blocked_loss(*given):
    return blocked_cross_entropy(*given).loss / 3


def head_of(config):
    """A head apart from its encoder: its structure and parameters, and a batch of hidden states."""
    structure, params = nnx.split(HEADS[config.head](config, rngs=nnx.Rngs(0)), nnx.Param)
    keys = jax.random.split(jax.random.key(0), 4)
    hidden = jax.random.normal(keys[0], (ROWS, PREDICTIONS, config.hidden_size))
    table = 0.3 * jax.random.normal(keys[1], (config.vocab_size, config.hidden_size))
    labels = jax.random.randint(keys[2], (ROWS, PREDICTIONS), 0, config.vocab_size)
    weights = (jax.random.uniform(keys[3], labels.shape) < 0.6) * 1.0
    return structure, params, (hidden, table, labels, weights)


def totals(config, key):
    structure, params, given = head_of(config)
    return jax.jit(lambda key: nnx.merge(structure, params).totals(*given, key))(key)


@pytest.mark.parametrize("weights", [None, jnp.ones((ROWS, PREDICTIONS)), jnp.zeros((ROWS, 7))])
def test_blocks_have_the_loss_gradient_and_accuracy_of_the_whole(weights, small_blocks):
    given = arguments(weights)
    expected = jax.jit(jax.value_and_grad(full_loss, (0, 1, 2)))(*given)
    found = jax.jit(jax.value_and_grad(blocked_loss, (0, 1, 2)))(*given)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5)
    correct = (blocked_cross_entropy(*given).correct * given[4]).sum()
    assert (
        correct == cross_entropy(given[0] @ given[1].T + given[2], *given[3:]).metrics["accuracy"]
    )


@pytest.mark.parametrize("devices", [1, 8])
def test_smoothing_and_z_loss_are_added_whole_in_blocks_and_over_devices(devices, small_blocks):
    """With several devices, each has a part of the vocabulary."""
    given = arguments(vocabulary=96)
    regularizers = Regularizers(smoothing=0.1, z_loss=0.01)
    mesh = jax.make_mesh(
        (1, 1, devices), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3
    )

    def expected(x, table, bias, labels, weights):
        logs = jax.nn.log_softmax(x @ table.T + bias)
        of_label = jnp.take_along_axis(logs, labels[..., None], -1)[..., 0]
        log_normalizer = jax.nn.logsumexp(x @ table.T + bias, -1)
        loss = -0.9 * of_label - 0.1 * logs.mean(-1) + 0.01 * log_normalizer**2
        return (loss * weights).sum()

    def whole(x, table, bias, labels, weights):
        return cross_entropy(x @ table.T + bias, labels, weights, regularizers).loss

    def blocked(*given):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return blocked_cross_entropy(*given, regularizers).loss

    rows, vocabulary = (jax.NamedSharding(mesh, jax.P(axis)) for axis in ("data", "tensor"))
    shardings = {"in_shardings": (rows, vocabulary, vocabulary, rows, rows)}
    found = [
        jax.jit(jax.value_and_grad(loss, (0, 1, 2)), **each)(*given)
        for loss, each in ((whole, {}), (blocked, shardings), (expected, {}))
    ]
    for leaves in zip(*map(jax.tree.leaves, found), strict=True):
        for leaf in leaves[:2]:
            np.testing.assert_allclose(leaf, leaves[2], atol=5e-5, rtol=5e-5)


def test_logits_are_never_whole():
    given = arguments(rows=512, vocabulary=4096)

    def temporary_bytes(loss):
        compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*given).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    whole = 4 * 512 * PREDICTIONS * 4096
    assert temporary_bytes(full_loss) >= whole
    assert temporary_bytes(blocked_loss) < whole


def test_an_evaluation_is_not_smoothed():
    plain = dataclasses.replace(CLASSIC, head="blocked")
    smoothed = dataclasses.replace(plain, label_smoothing=0.5, z_loss=0.1)
    key = jax.random.key(0)
    assert totals(smoothed, None).loss == totals(plain, None).loss
    assert totals(smoothed, key).loss > totals(plain, key).loss


def test_an_evaluation_computes_no_gradients(small_blocks):
    def products(function):
        return str(jax.make_jaxpr(function)(*arguments())).count("dot_general")

    assert products(lambda *given: blocked_cross_entropy(*given).loss) == 1
    assert products(jax.grad(blocked_loss)) == 3


def test_no_hidden_state_travels_and_the_gradient_of_the_table_is_summed_once(small_blocks):
    mesh = jax.make_mesh(
        (8, 1, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3
    )
    rows = jax.NamedSharding(mesh, jax.P("data"))
    whole = jax.NamedSharding(mesh, jax.P())

    def on_mesh(*given):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return blocked_loss(*given)

    step = jax.jit(
        jax.grad(on_mesh, (0, 1, 2)),
        in_shardings=(rows, whole, whole, rows, rows),
        out_shardings=(rows, whole, whole),
    )
    lines = step.lower(*arguments(rows=64)).compile().as_text().splitlines()
    travelling = ("all-gather", "all-to-all", "collective-permute", "all-reduce")
    collectives = [line for line in lines if any(f" {name}(" in line for name in travelling)]
    assert collectives
    assert not any("while" in line.partition("metadata")[2] for line in collectives)
    assert all(" all-reduce(" in line for line in collectives)


def test_a_sample_is_distinct_and_holds_each_piece_as_often_as_it_says():
    number, draws = 16, 4000
    keys = jax.random.split(jax.random.key(0), draws)
    ids, probabilities = jax.vmap(lambda key: sample_ranks(VOCAB, number, key))(keys)
    assert all(len(set(row)) == number for row in np.asarray(ids[:50]).tolist())
    share = np.bincount(np.asarray(ids).ravel(), minlength=VOCAB) / draws
    stated = np.zeros(VOCAB)
    stated[np.asarray(ids)] = probabilities
    assert stated[0] == 1.0
    assert 0 < stated[-1] < 0.2
    np.testing.assert_allclose(share, stated, atol=4 * np.sqrt(0.25 / draws))
    np.testing.assert_allclose(stated.sum(), number, rtol=1e-6)


def test_a_sampled_loss_goes_to_the_exact_one_and_is_evaluated_exactly():
    config = dataclasses.replace(CLASSIC, head="sampled", sampled_negatives=90)
    exact = totals(dataclasses.replace(config, head="full"), None)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), totals(config, None), exact
    )
    estimates = [totals(config, jax.random.key(seed)).loss for seed in (1, 1, 2)]
    assert estimates[0] == estimates[1] != estimates[2]
    assert estimates[0] != exact.loss
    np.testing.assert_allclose(estimates[0], exact.loss, rtol=0.02)


def test_the_estimated_normalizer_has_no_bias():
    x, table, bias, labels, _ = arguments()
    first = jnp.ones((1, 1))

    def normalizer(key):
        loss = sampled_cross_entropy(
            x[:1, :1], 0.3 * table, bias, labels[:1, :1], first, 12, key
        ).loss
        own = 0.3 * x[0, 0] @ table[labels[0, 0]] + bias[labels[0, 0]]
        return jnp.exp(loss + own)

    found = jax.jit(jax.vmap(normalizer))(jax.random.split(jax.random.key(0), 4000))
    exact = jnp.exp(0.3 * table @ x[0, 0] + bias).sum()
    assert found.std() > 0.01 * exact
    assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(4000)


def test_adaptive_probabilities_sum_to_one_and_the_training_loss_is_theirs(small_blocks):
    config = dataclasses.replace(MODERN, head="adaptive")
    structure, params, given = head_of(config)
    logits = jax.jit(lambda params: nnx.merge(structure, params).logits(*given[:2]))(params)
    np.testing.assert_allclose(jnp.exp(logits).sum(-1), 1.0, rtol=1e-5)

    @jax.jit
    @jax.value_and_grad
    def differentiated(params, key):
        return nnx.merge(structure, params).totals(*given, key).loss

    trained, gradient = differentiated(params, jax.random.key(0))
    exact, expected = differentiated(params, None)
    np.testing.assert_allclose(trained, exact, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, float(jnp.abs(b).max())))


def test_an_adaptive_head_counts_in_the_order_of_frequency(small_blocks):
    order = np.random.default_rng(0).permutation(MODERN.vocab_size)
    plain = dataclasses.replace(MODERN, head="adaptive")
    ordered = dataclasses.replace(plain, token_order=tuple(order.tolist()))
    structure, params, (hidden, table, labels, weights) = head_of(plain)
    by_order = nnx.split(HEADS["adaptive"](ordered, rngs=nnx.Rngs(0)), nnx.Param)[0]
    # The plain head on renumbered tokens: number r is the token order[r].
    renumbered = hidden, table[order], jnp.argsort(jnp.asarray(order))[labels], weights
    own = hidden, table, labels, weights
    expected = nnx.merge(structure, params).logits(*renumbered[:2])
    found = nnx.merge(by_order, params).logits(*own[:2])
    np.testing.assert_allclose(found[..., order], expected, atol=1e-5)
    for key in (None, jax.random.key(0)):
        one = nnx.merge(by_order, params).totals(*own, key)
        other = nnx.merge(structure, params).totals(*renumbered, key)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, other)


def test_a_sample_holds_the_tokens_that_are_frequent_in_the_corpus():
    order = np.random.default_rng(0).permutation(CLASSIC.vocab_size)
    config = dataclasses.replace(CLASSIC, head="sampled", sampled_negatives=30)
    ordered = dataclasses.replace(config, token_order=tuple(order.tolist()))
    _, _, (hidden, table, labels, weights) = head_of(config)
    key = jax.random.key(0)
    structure, params = nnx.split(HEADS["sampled"](config, rngs=nnx.Rngs(0)), nnx.Param)
    by_order = nnx.split(HEADS["sampled"](ordered, rngs=nnx.Rngs(0)), nnx.Param)[0]
    renumbered = hidden, table[order], jnp.argsort(jnp.asarray(order))[labels], weights
    one = nnx.merge(by_order, params).totals(hidden, table, labels, weights, key)
    other = nnx.merge(structure, params).totals(*renumbered, key)
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-5)
    assert one.loss != nnx.merge(structure, params).totals(hidden, table, labels, weights, key).loss


def test_an_adaptive_head_is_not_exported_and_the_others_are():
    with pytest.raises(UserError, match=r"config\.model\.head is 'adaptive'"):
        architecture(dataclasses.replace(CLASSIC, head="adaptive"))
    for head in ("full", "blocked", "sampled"):
        sampled = dataclasses.replace(CLASSIC, head=head, sampled_negatives=8)
        assert architecture(sampled) == "BertForPreTraining"
        assert jax.tree.structure(abstract(sampled)[1]) == jax.tree.structure(abstract(CLASSIC)[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "hierarchical"},
        {"head": "sampled", "sampled_negatives": 97},
        {"head": "adaptive", "adaptive_cutoffs": (50, 20)},
        {"head": "adaptive", "adaptive_cutoffs": (20, 97)},
    ],
    ids=str,
)
def test_an_impossible_head_is_refused_by_field(changes):
    field = list(changes)[-1]
    with pytest.raises(UserError, match=rf"config\.model\.{field}"):
        ModelConfig(**dataclasses.asdict(CLASSIC) | changes)
