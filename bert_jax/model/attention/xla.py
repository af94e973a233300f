"""Attention in plain JAX: the reference, on any device, with every argument.

Three ways to one result. *Dense* holds the scores [B, N, L, L]. *Local* layers compare each block
of queries with its own and the two neighbouring blocks alone. *Long* rows take the queries block
by block and compute the scores again in the backward pass, so that [B, N, block, L] is the most
that ever exists.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from bert_jax.model.dropout import dropout
from bert_jax.model.products import contract

SMALLEST_BLOCK = 64  # of a local layer's queries
LONG = 2048  # tokens of a row from which on the queries are taken block by block
LONG_BLOCK = 256
OUTSIDE = -1  # the segment of places before and behind the row


def attend(
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    segment_ids: Int[Array, "B L"],
    *,
    window: int,
    dropout_rate: float,
    dropout_key: PRNGKeyArray | None,
) -> Float[Array, "B L N H"]:
    """As `bert_jax.model.attention.attend`, the way chosen by length and window."""
    length = query.shape[1]
    block = max(window // 2, SMALLEST_BLOCK)
    if window and 2 * 3 * block <= length:  # below twice what a block reads, dense is faster
        return _local(query, key, value, segment_ids, window, block, dropout_rate, dropout_key)
    if length >= LONG and length % LONG_BLOCK == 0:
        return _long(query, key, value, segment_ids, window, dropout_rate, dropout_key)
    place = jnp.arange(length)
    visible = visibility(segment_ids, segment_ids, place, place, window)
    return dense(query, key, value, visible, dropout_rate, dropout_key)


def dense(
    query: Float[Array, "*B L N H"],
    key: Float[Array, "*B M N H"],
    value: Float[Array, "*B M N H"],
    visible: Bool[Array, "*B L M"],
    dropout_rate: float,
    dropout_key: PRNGKeyArray | None,
) -> Float[Array, "*B L N H"]:
    """Scaled dot-product attention (https://arxiv.org/abs/1706.03762, eq. 1); softmax in float32.

    Args:
      query, key, value: projections of the hidden states.
      visible: [..., i, j] tells whether query i attends to key j; no query may see nothing.
      dropout_rate: share of the attention probabilities that are dropped.
      dropout_key: None switches dropout off.
    """
    rows, dtype = "bc"[: query.ndim - 3], value.dtype
    query = query * query.shape[-1] ** -0.5
    scores = contract(f"{rows}lnh,{rows}mnh->{rows}nlm", query, key, dtype, jnp.float32)
    scores = jnp.where(visible[..., None, :, :], scores, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(scores, axis=-1).astype(dtype)
    probabilities = dropout(probabilities, dropout_rate, dropout_key)
    return contract(f"{rows}nlm,{rows}mnh->{rows}lnh", probabilities, value, dtype)


def visibility(
    query_segments: Int[Array, "*B L"],
    key_segments: Int[Array, "*B M"],
    query_places: Int[Array, "*C L"],
    key_places: Int[Array, "*C M"],
    window: int,
) -> Bool[Array, "*B L M"]:
    """Which queries see which keys: those of one document, at most `window / 2` tokens apart.

    Padding (segment 0) sees padding alone, so that no query sees nothing and no document sees it.

    Args:
      query_segments, key_segments: the document that each token belongs to, 0 for padding.
      query_places, key_places: where the tokens stand in the row.
      window: width of the local window in tokens, both sides together; 0: no limit.
    """
    same_document = query_segments[..., :, None] == key_segments[..., None, :]
    if not window:
        return same_document
    distance = jnp.abs(query_places[..., :, None] - key_places[..., None, :])
    return same_document & (distance <= window // 2)


def _local(query, key, value, segment_ids, window, block, dropout_rate, dropout_key):
    """Blocks of queries, each with the three blocks of keys that its window can reach."""
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
    mixed = dense(
        blocks(query, 0),
        neighbours(key, 0),
        neighbours(value, 0),
        visible,
        dropout_rate,
        dropout_key,
    )
    return mixed.reshape(mixed.shape[0], -1, *mixed.shape[3:])[:, :length]


def _long(query, key, value, segment_ids, window, dropout_rate, dropout_key):
    """One block of queries after the other, each against the whole row."""
    batch, length = segment_ids.shape
    place = jnp.arange(length)

    @jax.checkpoint
    def mix(block: tuple[Array, Array, Array, Array]) -> Array:
        index, block_query, block_segments, block_places = block
        visible = visibility(block_segments, segment_ids, block_places, place, window)
        block_key = None if dropout_key is None else jax.random.fold_in(dropout_key, index)
        return dense(block_query, key, value, visible, dropout_rate, block_key)

    def blocks(x: Array) -> Array:  # [B, L, ...] -> [L / block, B, block, ...]
        return x.reshape(batch, -1, LONG_BLOCK, *x.shape[2:]).swapaxes(0, 1)

    places = place.reshape(-1, LONG_BLOCK)
    mixed = jax.lax.map(mix, (jnp.arange(len(places)), blocks(query), blocks(segment_ids), places))
    return mixed.swapaxes(0, 1).reshape(query.shape)
