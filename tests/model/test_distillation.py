"""The losses beside a teacher, against their formulas in plain float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.model.distillation import relation_totals, soft_target_totals


def log_softmax(scores):
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def divergence(target, found):
    return float((np.exp(target) * (target - found)).sum())


def relations(x, heads):
    """Of the tokens [n, N, H] of one document, one relation head after another: [A, n, n]."""
    parts = np.split(x.reshape(len(x), -1), heads, axis=1)
    return [log_softmax(part @ part.T / np.sqrt(part.shape[1])) for part in parts]


def test_relations_are_those_of_the_formula_document_by_document():
    random = np.random.default_rng(0)
    segments = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1], [0] * 6], np.int32)
    student = random.normal(size=(3, 6, 3, 2, 4))  # two heads of width 4
    teacher = random.normal(size=(3, 6, 3, 3, 8))  # three of width 8
    expected = 0.0
    for row, number in [(0, 1), (0, 2), (1, 1)]:
        document = segments[row] == number
        for kind in range(3):
            pairs = zip(
                relations(teacher[row, document, kind], 4),
                relations(student[row, document, kind], 4),
                strict=True,
            )
            expected += sum(divergence(target, found) for target, found in pairs) / 4
    totals = jax.jit(functools.partial(relation_totals, heads=4))(
        jnp.asarray(student, jnp.float32), jnp.asarray(teacher, jnp.float32), segments
    )
    np.testing.assert_allclose(totals.loss, expected, rtol=1e-5)
    assert totals.weight == 11


def test_a_student_with_the_teacher_s_relations_has_nothing_to_learn():
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 2, 4))
    segments = jnp.array([[1, 1, 2, 2, 0], [1, 1, 1, 1, 1]])
    of_student = jax.value_and_grad(lambda s: relation_totals(s, x, segments, 2).loss)
    loss, gradient = jax.jit(of_student)(x)
    np.testing.assert_allclose(loss, 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros(x.shape), atol=1e-6)


@pytest.mark.parametrize("block_bytes", [2**24, 4 * 11 * 2 * 3], ids=["at once", "in blocks"])
def test_soft_targets_are_those_of_the_formula(block_bytes, monkeypatch):
    """Also in blocks of three predictions, the last of them padded."""
    monkeypatch.setattr("bert_jax.model.cross_entropy.CPU_BLOCK_BYTES", block_bytes)
    random = np.random.default_rng(1)
    student, teacher = random.normal(size=(2, 5, 4)), random.normal(size=(2, 5, 6))
    ours, theirs = random.normal(size=(4, 11)), random.normal(size=(6, 11))
    weights = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0]])

    def expected(ours):
        found = log_softmax(student @ ours / 2.5)
        target = log_softmax(teacher @ theirs / 2.5)
        return 2.5**2 * divergence(target[weights > 0], found[weights > 0])

    def loss(ours):
        low = [jnp.asarray(x, jnp.float32) for x in (student, teacher, theirs, weights)]
        totals = soft_target_totals(
            low[0], low[1], lambda x: x @ ours, lambda x: x @ low[2], low[3], 2.5
        )
        return totals.loss

    found, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(ours, jnp.float32))
    np.testing.assert_allclose(found, expected(ours), rtol=1e-5)
    step = np.zeros_like(ours)
    step[1, 3] = 1e-5
    slope = (expected(ours + step) - expected(ours - step)) / 2e-5
    np.testing.assert_allclose(gradient[1, 3], slope, rtol=1e-3)
