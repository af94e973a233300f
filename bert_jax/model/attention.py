"""Attention within the documents of packed rows, with rotary positions and local windows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from bert_jax.model.dropout import dropout
from bert_jax.model.products import contract


def attend(
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    visible: Bool[Array, "B 1 L L"],
    *,
    dropout_rate: float,
    dropout_key: PRNGKeyArray | None,
) -> Float[Array, "B L N H"]:
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, eq. 1); softmax in float32.

    Args:
      query, key, value: projections of the hidden states.
      visible: [b, 0, i, j] tells whether position i attends to position j. No row may be wholly
        False.
      dropout_rate: share of the attention probabilities that are dropped.
      dropout_key: None switches dropout off.
    """
    scale = query.shape[-1] ** -0.5
    dtype = value.dtype
    scores = contract("blnh,bmnh->bnlm", query * scale, key, dtype, jnp.float32)
    scores = jnp.where(visible, scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(dtype)
    probabilities = dropout(probabilities, dropout_rate, dropout_key)
    return contract("bnlm,bmnh->blnh", probabilities, value, dtype)


def visibility(segment_ids: Int[Array, "B L"], window: int) -> Bool[Array, "B 1 L L"]:
    """Which positions see each other: those of one document, at most `window / 2` tokens apart.

    Padding (segment 0) sees padding alone, so that no row is empty and no document sees it.

    Args:
      segment_ids: the document that each token belongs to, 0 for padding.
      window: width of the local window in tokens, both sides together; 0: no limit.
    """
    same_document = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    if not window:
        return same_document
    place = jnp.arange(segment_ids.shape[1])
    return same_document & (jnp.abs(place[:, None] - place[None, :]) <= window // 2)


def rotary_angles(
    position_ids: Int[Array, "B L"], head_size: int, theta: float
) -> tuple[Float[Array, "B L 1 R"], Float[Array, "B L 1 R"]]:
    """Cosine and sine of the angle of each position and of R = H/2 frequencies, in float32.

    Frequencies theta^(-2i/H), i < H/2 (RoFormer, https://arxiv.org/abs/2104.09864, section 3.2.2).
    """
    frequency = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    angle = position_ids[:, :, None, None].astype(jnp.float32) * frequency  # B L 1 R
    return jnp.cos(angle), jnp.sin(angle)


def rotate(
    x: Float[Array, "B L N H"],
    angles: tuple[Float[Array, "B L 1 R"], Float[Array, "B L 1 R"]],
) -> Float[Array, "B L N H"]:
    """Turn the pairs (x[i], x[i + H/2]) by their angles, as Hugging Face's `rotate_half` does."""
    cos, sin = angles
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)  # B L N H/2
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
