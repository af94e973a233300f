"""Losses of a student beside its teacher's results on the same batch.

Both are Kullback-Leibler divergences KL(teacher || student) in float32, summed over positions. Axes
as in `encoder`; M heads of width K in the teacher; A relation heads; P masked positions.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bert_jax.model.attention.xla import visibility
from bert_jax.model.cross_entropy import Totals, logits_of_block
from bert_jax.model.placement import ROWS, mesh_in_context, platform
from bert_jax.model.products import contract

HIDDEN_FROM = jnp.finfo(jnp.float32).min  # the score of a pair of tokens of two documents


def relation_totals(
    student: Float[Array, "B L 3 N H"],
    teacher: Float[Array, "B L 3 M K"],
    segment_ids: Int[Array, "B L"],
    heads: int,
) -> Totals:
    """Divergence of the self-attention relations (MiniLMv2, https://arxiv.org/abs/2012.15828, 3.1).

    The queries of a layer, all heads side by side, are cut into `heads` relation heads and compared
    with each other by scaled dot products and a softmax; so are its keys and its values. Student
    and teacher need not have the same width or number of attention heads. A token is compared with
    those of its document alone.

    Args:
      student: queries, keys and values of the student's layer, before they are rotated.
      teacher: those of the teacher's layer.
      segment_ids: the document of each token, 0 for padding.
      heads: A; divides both widths.

    Returns:
      The sum over tokens, and over queries, keys and values, of the mean over relation heads; its
      weight is the number of tokens without padding.
    """
    position = jnp.arange(segment_ids.shape[1])
    visible = visibility(segment_ids, segment_ids, position, position, 0)[:, None]  # B 1 L L
    weights = (segment_ids > 0).astype(jnp.float32)

    @jax.checkpoint  # of the three kinds, one has its relations in memory at a time
    def divergence(student: Array, teacher: Array) -> Float[Array, ""]:
        target = log_relations(teacher, visible, heads)
        found = log_relations(student, visible, heads)
        each = jnp.where(visible, jnp.exp(target) * (target - found), 0.0).sum(-1)  # B A L
        return (each.mean(axis=1) * weights).sum()

    kinds = [divergence(student[:, :, kind], teacher[:, :, kind]) for kind in range(3)]
    return Totals(jnp.stack(kinds).sum(), {}, weights.sum())


def log_relations(
    x: Float[Array, "B L N H"], visible: Bool[Array, "B 1 L L"], heads: int
) -> Float[Array, "B A L L"]:
    """Logarithms of softmax(x x^T / sqrt(width)) over the visible tokens, by relation head."""
    batch, length, *_ = x.shape
    x = x.reshape(batch, length, heads, -1)
    scaled = x * x.shape[-1] ** -0.5
    scores = contract("blac,bmac->balm", scaled, x, x.dtype, jnp.float32)
    return jax.nn.log_softmax(jnp.where(visible, scores, HIDDEN_FROM), axis=-1)


def soft_target_totals(
    student: Float[Array, "B P D"],
    teacher: Float[Array, "B P E"],
    student_logits: Callable[[Array], Array],
    teacher_logits: Callable[[Array], Array],
    weights: Float[Array, "B P"],
    temperature: float,
) -> Totals:
    """Divergence of the predictions at masked positions (https://arxiv.org/abs/1503.02531, 2).

    Both distributions are softened by the temperature T, and the loss is multiplied by T^2, so that
    its gradient keeps its size. Where they are many, the logits exist for some positions at a time,
    as in `blocked_cross_entropy`, and are computed again in the backward pass.

    Args:
      student: hidden states of the student, D wide.
      teacher: hidden states of the teacher, E wide.
      student_logits, teacher_logits: [B, P, V] in float32, of hidden states.
      weights: 1 for predictions, 0 for unused entries.
      temperature: T.
    """

    def divergence(student: Array, teacher: Array, weights: Array) -> Float[Array, ""]:
        target = jax.nn.log_softmax(teacher_logits(teacher) / temperature, axis=-1)
        found = jax.nn.log_softmax(student_logits(student) / temperature, axis=-1)
        each = (jnp.exp(target) * (target - found)).sum(axis=-1)  # B P
        return temperature**2 * (each * weights).sum()

    vocabulary = jax.eval_shape(teacher_logits, teacher).shape[-1]
    parts = _parts(weights.shape[0], weights.shape[1], vocabulary)
    if parts == 1:
        return Totals(divergence(student, teacher, weights), {}, weights.sum())

    def split(x: Array) -> Array:  # [B, P, ...] -> [parts, B, P / parts, ...], zeros appended
        padding = -x.shape[1] % parts
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        return x.reshape(x.shape[0], parts, -1, *x.shape[2:]).swapaxes(0, 1)

    def add(total: Array, part: tuple[Array, Array, Array]) -> tuple[Array, None]:
        return total + jax.checkpoint(divergence)(*part), None

    whole = split(student), split(teacher), split(weights)
    loss, _ = jax.lax.scan(add, jnp.zeros(()), whole)
    return Totals(loss, {}, weights.sum())


def _parts(rows: int, predictions: int, vocabulary: int) -> int:
    """Parts of the predictions of a row whose logits are computed one after another."""
    mesh = mesh_in_context()
    rows_of_device = rows if mesh is None else rows / math.prod(mesh.shape[axis] for axis in ROWS)
    at_once = max(1, int(logits_of_block(platform()) / (vocabulary * rows_of_device)))
    return math.ceil(predictions / at_once)
