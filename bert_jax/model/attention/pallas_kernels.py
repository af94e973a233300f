"""The kernels of our flash attention: one block of a row and head a program.

Each visits only the blocks within the ranges of its block. The backward pass recomputes the
probabilities from the scores.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Bool, Int

from bert_jax.model.attention.dropped import Dropout
from bert_jax.model.dropout import is_kept

LOG2_E = math.log2(math.e)  # the kernels compute with powers of 2, as GPUs do
HIDDEN = -1e30  # score of what is not visible


class Options(NamedTuple):
    """What the kernels are compiled for; hashable.

    Attributes:
      interpret: run step by step on a CPU, for tests.
      row_step: of `dropped.Dropout`.
      rate: share of the probabilities that are dropped; 0: none.
    """

    interpret: bool
    row_step: int
    rate: float


def forward_kernel(
    options, seed_ref, q_ref, k_ref, v_ref, first_ref, last_ref, mixed_ref, log_sum_ref
):
    """One block of queries against the blocks of keys that any of them attends to."""
    query, first, last = q_ref[...], first_ref[...], last_ref[...]
    block, width = query.shape
    scale = LOG2_E * width**-0.5
    kept = _kept(options, seed_ref, k_ref.shape[0])
    queries = pl.program_id(0) * block + jnp.arange(block)

    def add(index, carry):
        mixed, top, total = carry
        keys = pl.ds(index * block, block)
        scores = _product(query, k_ref[keys, :].T) * scale
        position = index * block + jnp.arange(block)
        seen = (first[:, None] <= position[None, :]) & (position[None, :] < last[:, None])
        scores = jnp.where(seen, scores, HIDDEN)
        new_top = jnp.maximum(top, scores.max(axis=1))
        weights = jnp.exp2(scores - new_top[:, None])
        correction = jnp.exp2(top - new_top)
        value = v_ref[keys, :]
        used = weights  # of the mixture; the sum of the softmax takes all
        if options.rate:
            used = jnp.where(kept(queries, position), weights, 0.0)
        mixed = mixed * correction[:, None] + _product(used.astype(value.dtype), value)
        return mixed, new_top, total * correction + weights.sum(axis=1)

    nothing = jnp.zeros((block, width), jnp.float32)
    lowest = jnp.full((block,), -jnp.inf, jnp.float32)
    start = nothing, lowest, jnp.zeros((block,), jnp.float32)
    mixed, top, total = lax.fori_loop(*_blocks(first, last, block), add, start)
    divisor = total * (1.0 - options.rate)
    mixed_ref[...] = (mixed / divisor[:, None]).astype(mixed_ref.dtype)
    log_sum_ref[...] = top + jnp.log2(total)


def query_gradient_kernel(
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
    """The gradient of one block of queries; recomputes the probabilities from the log sum."""
    query, first, last = q_ref[...], first_ref[...], last_ref[...]
    cotangent, log_sum, delta = cotangent_ref[...], log_sum_ref[...], delta_ref[...]
    block, width = query.shape
    scale = width**-0.5
    kept = _kept(options, seed_ref, k_ref.shape[0])
    queries = pl.program_id(0) * block + jnp.arange(block)

    def add(index, gradient):
        keys = pl.ds(index * block, block)
        key = k_ref[keys, :]
        position = index * block + jnp.arange(block)
        seen = (first[:, None] <= position[None, :]) & (position[None, :] < last[:, None])
        scores = jnp.where(seen, _product(query, key.T) * (LOG2_E * scale), HIDDEN)
        weights = jnp.exp2(scores - log_sum[:, None])
        change = _product(cotangent, v_ref[keys, :].T)
        if options.rate:
            change = jnp.where(kept(queries, position), change / (1.0 - options.rate), 0.0)
        change = weights * (change - delta[:, None])
        return gradient + _product((change * scale).astype(key.dtype), key)

    start = jnp.zeros((block, width), jnp.float32)
    gradient = lax.fori_loop(*_blocks(first, last, block), add, start)
    gradient_ref[...] = gradient.astype(gradient_ref.dtype)


def key_value_gradient_kernel(
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
    """The gradients of one block of keys; the queries that attend to a key are its own range."""
    key, value, first, last = k_ref[...], v_ref[...], first_ref[...], last_ref[...]
    block, width = key.shape
    scale = width**-0.5
    kept = _kept(options, seed_ref, q_ref.shape[0])
    keys = pl.program_id(0) * block + jnp.arange(block)

    def add(index, carry):
        key_gradient, value_gradient = carry
        queries = pl.ds(index * block, block)
        query, cotangent = q_ref[queries, :], cotangent_ref[queries, :]
        position = index * block + jnp.arange(block)
        seen = (first[None, :] <= position[:, None]) & (position[:, None] < last[None, :])
        scores = jnp.where(seen, _product(query, key.T) * (LOG2_E * scale), HIDDEN)
        weights = jnp.exp2(scores - log_sum_ref[queries][:, None])
        used, change = weights, _product(cotangent, value.T)
        if options.rate:
            survives = kept(position, keys)
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
    """A function of query and key positions: which probabilities this program keeps; None: all."""
    if not options.rate:
        return None
    row = pl.program_id(1) * options.row_step + pl.program_id(2)
    words = seed_ref[0], seed_ref[1]
    dropout = Dropout(words, seed_ref[2], options.row_step, options.rate)

    def kept(
        query_positions: Int[Array, "Q"], key_positions: Int[Array, "K"]
    ) -> Bool[Array, "Q K"]:
        bits = dropout.bits(row, query_positions[:, None], key_positions[None, :], length)
        return is_kept(bits, options.rate)

    return kept


def _blocks(first: Array, last: Array, block: int) -> tuple[Array, Array]:
    """First block, and the one after the last, that cover all of these ranges."""
    return lax.div(first.min(), block), lax.div(last.max() + (block - 1), block)


def _product(a: Array, b: Array) -> Array:
    """A matrix product accumulated in float32; float32 operands are not rounded to TF32."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jnp.dot(a, b, preferred_element_type=jnp.float32, precision=precision)
