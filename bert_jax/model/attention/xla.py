"""Attention in plain JAX: the reference, on any device, with every argument.

Three algorithms with the same result, dropout included. *Dense* stores the scores [B, N, L, L].
*Local* layers compare each block of queries only with the same block of keys and its two
neighbours. *Long* rows take the queries block by block and recompute the scores in the backward
pass, so that at most [B, N, block, L] scores exist at a time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bert_jax.model.attention.dropped import Dropout
from bert_jax.model.dropout import drop
from bert_jax.model.products import contract

SMALLEST_BLOCK = 64  # of a local layer's queries
LONG = 2048  # tokens of a row; from here on the queries are taken block by block
LONG_BLOCK = 256
OUTSIDE = -1  # segment of the positions before and after the row


def attend(
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    segment_ids: Int[Array, "B L"],
    *,
    window: int,
    dropout: Dropout | None,
) -> Float[Array, "B L N H"]:
    """As `bert_jax.model.attention.attend`; the algorithm is chosen by length and window."""
    length = query.shape[1]
    block = max(window // 2, SMALLEST_BLOCK)
    if window and 2 * 3 * block <= length:  # in shorter rows, dense is faster
        return _local(query, key, value, segment_ids, window, block, dropout)
    if length >= LONG and length % LONG_BLOCK == 0:
        return _long(query, key, value, segment_ids, window, dropout)
    position = jnp.arange(length)
    visible = visibility(segment_ids, segment_ids, position, position, window)
    return dense(query, key, value, visible, position, position, length, dropout)


def dense(
    query: Float[Array, "B *C L N H"],
    key: Float[Array, "B *C M N H"],
    value: Float[Array, "B *C M N H"],
    visible: Bool[Array, "B *C L M"],
    query_positions: Int[Array, "*C L"],
    key_positions: Int[Array, "*C M"],
    length: int,
    dropout: Dropout | None,
) -> Float[Array, "B *C L N H"]:
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, eq. 1); softmax in float32.

    Args:
      query, key, value: projections of the hidden states; C counts blocks of a row, if there are
        any.
      visible: [..., i, j] says whether query i attends to key j; every query must have some key.
      query_positions, key_positions: in the row, for dropout.
      length: tokens of the row.
      dropout: None: no probability is dropped.
    """
    rows, dtype = "bc"[: query.ndim - 3], value.dtype
    query = query * query.shape[-1] ** -0.5
    scores = contract(f"{rows}lnh,{rows}mnh->{rows}nlm", query, key, dtype, jnp.float32)
    scores = jnp.where(visible[..., None, :, :], scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(dtype)
    if dropout is not None:
        batch, heads = query.shape[0], query.shape[-2]
        blocks = (1,) * (query.ndim - 4)
        row = jnp.arange(batch)[:, None] * dropout.row_step + jnp.arange(heads)
        row = row.reshape(batch, *blocks, heads, 1, 1)  # B *C N L M
        bits = dropout.bits(
            row, query_positions[..., None, :, None], key_positions[..., None, None, :], length
        )
        probabilities = drop(probabilities, dropout.rate, bits)
    return contract(f"{rows}nlm,{rows}mnh->{rows}lnh", probabilities, value, dtype)


def visibility(
    query_segments: Int[Array, "*B L"],
    key_segments: Int[Array, "*B M"],
    query_positions: Int[Array, "*C L"],
    key_positions: Int[Array, "*C M"],
    window: int,
) -> Bool[Array, "*B L M"]:
    """Which queries attend to which keys: those of the same document, at most `window / 2` apart.

    Padding (segment 0) attends to padding only, so that every query has some key and no document
    attends to padding.

    Args:
      query_segments, key_segments: the document that each token belongs to, 0 for padding.
      query_positions, key_positions: in the row.
      window: width of the local window in tokens, both sides together; 0: no limit.
    """
    same_document = query_segments[..., :, None] == key_segments[..., None, :]
    if not window:
        return same_document
    distance = jnp.abs(query_positions[..., :, None] - key_positions[..., None, :])
    return same_document & (distance <= window // 2)


def _local(query, key, value, segment_ids, window, block, dropout):
    """Blocks of queries, each with the three blocks of keys within reach of its window."""
    length = query.shape[1]
    padding = -length % block

    def blocks(x: Array, outside: int) -> Array:  # [B, L, ...] -> [B, L / block, block, ...]
        widths = [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, widths, constant_values=outside)
        return x.reshape(x.shape[0], -1, block, *x.shape[2:])

    def neighbours(x: Array, outside: int) -> Array:  # -> [B, L / block, 3 block, ...]
        x = blocks(x, outside)
        widths = [(0, 0), (1, 1)] + [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, widths, constant_values=outside)
        return jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=2)

    visible = visibility(
        blocks(segment_ids, OUTSIDE),
        neighbours(segment_ids, OUTSIDE),
        block + jnp.arange(block),
        jnp.arange(3 * block),
        window,
    )
    begins = block * jnp.arange((length + padding) // block)[:, None]
    mixed = dense(
        blocks(query, 0),
        neighbours(key, 0),
        neighbours(value, 0),
        visible,
        begins + jnp.arange(block),
        begins - block + jnp.arange(3 * block),
        length,
        dropout,
    )
    return mixed.reshape(mixed.shape[0], -1, *mixed.shape[3:])[:, :length]


def _long(query, key, value, segment_ids, window, dropout):
    """Blocks of queries one after another, each against the whole row."""
    batch, length = segment_ids.shape
    position = jnp.arange(length)

    @jax.checkpoint
    def mix(block: tuple[Array, Array, Array]) -> Array:
        block_query, block_segments, block_positions = block
        visible = visibility(block_segments, segment_ids, block_positions, position, window)
        return dense(block_query, key, value, visible, block_positions, position, length, dropout)

    def blocks(x: Array) -> Array:  # [B, L, ...] -> [L / block, B, block, ...]
        return x.reshape(batch, -1, LONG_BLOCK, *x.shape[2:]).swapaxes(0, 1)

    positions = position.reshape(-1, LONG_BLOCK)
    mixed = jax.lax.map(mix, (blocks(query), blocks(segment_ids), positions))
    return mixed.swapaxes(0, 1).reshape(query.shape)
