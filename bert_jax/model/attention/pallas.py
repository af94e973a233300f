"""Flash attention for packed rows (NVIDIA GPUs), in Pallas compiled by Triton.

FlashAttention-2 (https://arxiv.org/abs/2307.08691) with one addition: each position attends to a
range of positions, since the tokens of a document are consecutive and a window is a range too.
Blocks of keys outside the ranges of a block of queries are never read, so a packed row costs as
much as its documents, and a local layer as much as its window. No array of size [L, L] is stored,
not even the
dropout mask: each kernel computes the random bits of its block from the indices, so that the
backward pass drops what the forward pass dropped.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Float, Int, UInt32

from bert_jax.model.attention import pallas_kernels
from bert_jax.model.attention.dropped import Dropout
from bert_jax.model.attention.pallas_kernels import Options


class Ranges(NamedTuple):
    """The positions [first, last) that each position attends to; the relation is symmetric."""

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
    """Attention within runs of equal segment ids and the window; see `dispatch.attend`.

    Args:
      interpret: run the kernels step by step on a CPU, for tests.
      dropout: None: no probability is dropped.
    """
    if dropout is None:
        options, seed = Options(interpret, query.shape[2], 0.0), jnp.zeros(4, jnp.uint32)
    else:
        options = Options(interpret, dropout.row_step, dropout.rate)
        seed = jnp.stack([*dropout.words, dropout.first, jnp.zeros_like(dropout.first)])
    return _flash(query, key, value, visible_ranges(segment_ids, window), seed, options)


def visible_ranges(segment_ids: Int[Array, "B L"], window: int) -> Ranges:
    """The range that each position attends to; `first` and `last` do not decrease along a row."""
    position = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)
    changes = segment_ids[:, 1:] != segment_ids[:, :-1]
    begins = jnp.pad(changes, ((0, 0), (1, 0)), constant_values=True)
    ends = jnp.pad(changes, ((0, 0), (0, 1)), constant_values=True)
    first = lax.cummax(jnp.where(begins, position, 0), axis=1)
    last = lax.cummin(jnp.where(ends, position + 1, position.size), axis=1, reverse=True)
    if window:
        first = jnp.maximum(first, position - window // 2)
        last = jnp.minimum(last, position + window // 2 + 1)
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
        pallas_kernels.forward_kernel,
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
        pallas_kernels.query_gradient_kernel,
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
        pallas_kernels.key_value_gradient_kernel,
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
    """The part of each array that one program of the grid (blocks of a row, rows, heads) reads."""

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
    # Imported late, because JAX has announced that it will remove its Triton backend.
    from jax.experimental.pallas import triton

    return pl.pallas_call(
        functools.partial(kernel, options),
        grid=specs.grid,
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=options.interpret,
        name=kernel.__name__.strip("_"),
        **shapes,
    )
