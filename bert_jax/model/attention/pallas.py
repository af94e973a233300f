"""Flash attention for packed rows (NVIDIA GPUs), in Pallas compiled by Triton.

FlashAttention-2 (https://arxiv.org/abs/2307.08691) with one addition: what a position sees is a
range of places, since the tokens of a document follow each other and windows are ranges too. Blocks
of keys outside the ranges of a block of queries are never read, so a packed row costs what its
documents cost alone, and a local layer what its window costs. Nothing of size [L, L] exists, the
dropout mask neither: each kernel computes the bits of its block from the indices, so that the
backward pass drops what the forward pass dropped.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Float, Int, UInt32

from bert_jax.model.attention.dropped import Dropout
from bert_jax.model.dropout import is_kept

LOG2_E = math.log2(math.e)  # the kernels compute with powers of 2, as GPUs do
HIDDEN = -1e30  # score of what is not visible


class Options(NamedTuple):
    """What the kernels are compiled for; hashable.

    Attributes:
      interpret: run step by step on a CPU, for tests.
      heads: N of the whole call, of which a device may have a part.
      rate: share of the probabilities that are dropped; 0: none.
    """

    interpret: bool
    heads: int
    rate: float


class Ranges(NamedTuple):
    """The places [first, last) that each position sees, and equally those that see it."""

    first: Int[Array, "B L"]
    last: Int[Array, "B L"]


def attend(
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    segment_ids: Int[Array, "B L"],
    window: int,
    interpret: bool,
    dropout: Dropout | None = None,
) -> Float[Array, "B L N H"]:
    """Attention within the runs of equal segment ids."""
    if dropout is None:
        options, seed = Options(interpret, query.shape[2], 0.0), jnp.zeros(4, jnp.uint32)
    else:
        options = Options(interpret, dropout.heads, dropout.rate)
        seed = jnp.stack([*dropout.words, dropout.first, jnp.zeros_like(dropout.first)])
    return _flash(query, key, value, visible_ranges(segment_ids, window), seed, options)


def visible_ranges(segment_ids: Int[Array, "B L"], window: int) -> Ranges:
    """From the runs of equal ids and the window; both ends grow along a row."""
    place = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    changes = segment_ids[:, 1:] != segment_ids[:, :-1]
    begins = jnp.pad(changes, ((0, 0), (1, 0)), constant_values=True)
    ends = jnp.pad(changes, ((0, 0), (0, 1)), constant_values=True)
    first = lax.cummax(jnp.where(begins, place, 0), axis=1)
    last = lax.cummin(jnp.where(ends, place + 1, place.size), axis=1, reverse=True)
    if window:
        first = jnp.maximum(first, place - window // 2)
        last = jnp.minimum(last, place + window // 2 + 1)
    return Ranges(first, last)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _flash(
    query: Array,
    key: Array,
    value: Array,
    ranges: Ranges,
    seed: UInt32[Array, "4"],
    options: Options,
) -> Array:
    return _forward(query, key, value, ranges, seed, options)[0]


def _forward(
    query: Array, key: Array, value: Array, ranges: Ranges, seed: Array, options: Options
) -> Any:
    """The mixed values, and what the backward pass needs.

    Args:
      seed: the two words of a key, b N + n of the first row and head, and 0 (Triton's arrays have
        sizes that are powers of 2).
    """
    batch, length, heads, _ = query.shape
    specs = _Specs(query.shape, block=128 if length % 128 == 0 else 64)
    mixed, log_sum = _call(
        _forward_kernel,
        specs,
        options,
        in_specs=[specs.seed, specs.block, specs.row, specs.row, specs.range, specs.range],
        out_specs=[specs.block, specs.scalar],
        out_shape=[query, jax.ShapeDtypeStruct((batch, heads, length), jnp.float32)],
    )(seed, query, key, value, *ranges)
    return mixed, (query, key, value, ranges, seed, mixed, log_sum)


def _backward(options: Options, residuals: Any, cotangent: Array) -> Any:
    """The gradients of query, key and value."""
    query, key, value, ranges, seed, mixed, log_sum = residuals
    # The sum over j of P_ij dP_ij, which is the same with dropout: O is made of what is kept.
    delta = (mixed.astype(jnp.float32) * cotangent.astype(jnp.float32)).sum(-1).swapaxes(1, 2)
    specs = _Specs(query.shape, block=64)
    query_gradient = _call(
        _query_gradient_kernel,
        specs,
        options,
        in_specs=[
            specs.seed,
            specs.block,
            specs.row,
            specs.row,
            specs.block,
            specs.scalar,
            specs.scalar,
            specs.range,
            specs.range,
        ],
        out_specs=specs.block,
        out_shape=query,
    )(seed, query, key, value, cotangent, log_sum, delta, *ranges)
    key_gradient, value_gradient = _call(
        _key_value_gradient_kernel,
        specs,
        options,
        in_specs=[
            specs.seed,
            specs.row,
            specs.block,
            specs.block,
            specs.row,
            specs.scalars,
            specs.scalars,
            specs.range,
            specs.range,
        ],
        out_specs=[specs.block, specs.block],
        out_shape=[key, value],
    )(seed, query, key, value, cotangent, log_sum, delta, *ranges)
    return query_gradient, key_gradient, value_gradient, None, None


_flash.defvjp(_forward, _backward)


class _Specs:
    """What one program of the grid (blocks of a row, rows, heads) gets to see of each array."""

    def __init__(self, shape: tuple[int, ...], block: int):
        batch, length, heads, width = shape
        self.grid = (length // block, batch, heads)
        # Of [B, L, N, H], [B, N, L] and [B, L]: one block of a row, or the whole row.
        self.block = pl.BlockSpec((None, block, None, width), lambda i, b, n: (b, i, n, 0))
        self.row = pl.BlockSpec((None, length, None, width), lambda i, b, n: (b, 0, n, 0))
        self.scalar = pl.BlockSpec((None, None, block), lambda i, b, n: (b, n, i))
        self.scalars = pl.BlockSpec((None, None, length), lambda i, b, n: (b, n, 0))
        self.range = pl.BlockSpec((None, block), lambda i, b, n: (b, i))
        self.seed = pl.BlockSpec((4,), lambda i, b, n: (0,))


def _call(kernel: Any, specs: _Specs, options: Options, **shapes: Any) -> Any:
    # Imported late: JAX has announced that a future version drops Triton.
    from jax.experimental.pallas import triton

    return pl.pallas_call(
        functools.partial(kernel, options),
        grid=specs.grid,
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=options.interpret,
        name=kernel.__name__.strip("_"),
        **shapes,
    )


def _forward_kernel(
    options, seed_ref, q_ref, k_ref, v_ref, first_ref, last_ref, mixed_ref, log_sum_ref
):
    """One block of queries against the blocks of keys that any of them sees."""
    query, first, last = q_ref[...], first_ref[...], last_ref[...]
    block, width = query.shape
    scale = LOG2_E * width**-0.5
    kept = _kept(options, seed_ref, k_ref.shape[0])
    queries = pl.program_id(0) * block + jnp.arange(block)

    def add(index, carry):
        mixed, top, total = carry
        keys = pl.ds(index * block, block)
        scores = _product(query, k_ref[keys, :].T) * scale
        place = index * block + jnp.arange(block)
        seen = (first[:, None] <= place[None, :]) & (place[None, :] < last[:, None])
        scores = jnp.where(seen, scores, HIDDEN)
        new_top = jnp.maximum(top, scores.max(axis=1))
        weights = jnp.exp2(scores - new_top[:, None])
        correction = jnp.exp2(top - new_top)
        value = v_ref[keys, :]
        used = weights  # of the mixture; the sum of the softmax takes all
        if options.rate:
            used = jnp.where(kept(queries, place), weights, 0.0)
        mixed = mixed * correction[:, None] + _product(used.astype(value.dtype), value)
        return mixed, new_top, total * correction + weights.sum(axis=1)

    nothing = jnp.zeros((block, width), jnp.float32)
    lowest = jnp.full((block,), -jnp.inf, jnp.float32)
    start = nothing, lowest, jnp.zeros((block,), jnp.float32)
    mixed, top, total = lax.fori_loop(*_blocks(first, last, block), add, start)
    divisor = total * (1.0 - options.rate)
    mixed_ref[...] = (mixed / divisor[:, None]).astype(mixed_ref.dtype)
    log_sum_ref[...] = top + jnp.log2(total)


def _query_gradient_kernel(
    options,
    seed_ref,
    q_ref,
    k_ref,
    v_ref,
    cotangent_ref,
    log_sum_ref,
    delta_ref,
    first_ref,
    last_ref,
    gradient_ref,
):
    """One block of queries; the probabilities come again from the scores and their log sum."""
    query, first, last = q_ref[...], first_ref[...], last_ref[...]
    cotangent, log_sum, delta = cotangent_ref[...], log_sum_ref[...], delta_ref[...]
    block, width = query.shape
    scale = width**-0.5
    kept = _kept(options, seed_ref, k_ref.shape[0])
    queries = pl.program_id(0) * block + jnp.arange(block)

    def add(index, gradient):
        keys = pl.ds(index * block, block)
        key = k_ref[keys, :]
        place = index * block + jnp.arange(block)
        seen = (first[:, None] <= place[None, :]) & (place[None, :] < last[:, None])
        scores = jnp.where(seen, _product(query, key.T) * (LOG2_E * scale), HIDDEN)
        weights = jnp.exp2(scores - log_sum[:, None])
        change = _product(cotangent, v_ref[keys, :].T)
        if options.rate:
            change = jnp.where(kept(queries, place), change / (1.0 - options.rate), 0.0)
        change = weights * (change - delta[:, None])
        return gradient + _product((change * scale).astype(key.dtype), key)

    start = jnp.zeros((block, width), jnp.float32)
    gradient = lax.fori_loop(*_blocks(first, last, block), add, start)
    gradient_ref[...] = gradient.astype(gradient_ref.dtype)


def _key_value_gradient_kernel(
    options,
    seed_ref,
    q_ref,
    k_ref,
    v_ref,
    cotangent_ref,
    log_sum_ref,
    delta_ref,
    first_ref,
    last_ref,
    key_gradient_ref,
    value_gradient_ref,
):
    """One block of keys; who sees a key is the range of places that it would see as a query."""
    key, value, first, last = k_ref[...], v_ref[...], first_ref[...], last_ref[...]
    block, width = key.shape
    scale = width**-0.5
    kept = _kept(options, seed_ref, q_ref.shape[0])
    keys = pl.program_id(0) * block + jnp.arange(block)

    def add(index, carry):
        key_gradient, value_gradient = carry
        queries = pl.ds(index * block, block)
        query, cotangent = q_ref[queries, :], cotangent_ref[queries, :]
        place = index * block + jnp.arange(block)
        seen = (first[None, :] <= place[:, None]) & (place[:, None] < last[None, :])
        scores = jnp.where(seen, _product(query, key.T) * (LOG2_E * scale), HIDDEN)
        weights = jnp.exp2(scores - log_sum_ref[queries][:, None])
        used, change = weights, _product(cotangent, value.T)
        if options.rate:
            survives = kept(place, keys)
            used = jnp.where(survives, weights / (1.0 - options.rate), 0.0)
            change = jnp.where(survives, change / (1.0 - options.rate), 0.0)
        change = weights * (change - delta_ref[queries][:, None])
        key_gradient += _product((change * scale).astype(query.dtype).T, query)
        value_gradient += _product(used.astype(cotangent.dtype).T, cotangent)
        return key_gradient, value_gradient

    start = jnp.zeros((block, width), jnp.float32), jnp.zeros((block, width), jnp.float32)
    gradients = lax.fori_loop(*_blocks(first, last, block), add, start)
    key_gradient_ref[...] = gradients[0].astype(key_gradient_ref.dtype)
    value_gradient_ref[...] = gradients[1].astype(value_gradient_ref.dtype)


def _kept(options: Options, seed_ref: Any, length: int) -> Any:
    """(places of queries, places of keys) -> whether the probability is kept, for this program."""
    if not options.rate:
        return None
    row = pl.program_id(1) * options.heads + pl.program_id(2)
    words = seed_ref[0], seed_ref[1]
    dropout = Dropout(words, seed_ref[2], options.heads, options.rate)

    def kept(query_places: Int[Array, "Q"], key_places: Int[Array, "K"]) -> Bool[Array, "Q K"]:
        bits = dropout.bits(row, query_places[:, None], key_places[None, :], length)
        return is_kept(bits, options.rate)

    return kept


def _blocks(first: Array, last: Array, block: int) -> tuple[Array, Array]:
    """The blocks of a row that hold all places of these ranges."""
    return lax.div(first.min(), block), lax.div(last.max() + (block - 1), block)


def _product(a: Array, b: Array) -> Array:
    """A matrix product that adds up in float32, and computes float32 operands in it."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jnp.dot(a, b, preferred_element_type=jnp.float32, precision=precision)
