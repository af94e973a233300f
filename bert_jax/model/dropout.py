"""Dropout from a key that is an argument, never module state.

The random bits of an element are a hash of its index and the key, so that a kernel that computes a
block of an array can compute the bits of that block alone. Rows are counted in the whole batch: a
micro-batch drops what the whole batch would drop in its rows.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32


class Rows(NamedTuple):
    """Which rows of a batch an array holds: first, first + stride, ..."""

    first: Any = 0  # int, or a scalar while a program is traced
    stride: int = 1


ALL_ROWS = Rows()
_rows: contextvars.ContextVar[Rows] = contextvars.ContextVar("rows", default=ALL_ROWS)


def rows_in_context() -> Rows:
    """The rows of the batch that the computation is traced for."""
    return _rows.get()


@contextlib.contextmanager
def rows_of_batch(rows: Rows) -> Iterator[None]:
    """Trace the computation in this block for these rows of the batch; the default is all rows."""
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


def dropout(x: Float[Array, "..."], rate: float, key: PRNGKeyArray | None) -> Float[Array, "..."]:
    """Zero a share `rate` of `x` and scale up the rest; without a key or with rate 0, `x` itself.

    The mask is a function of the key and the element's index alone, not of the sharding.
    """
    if key is None or rate == 0.0:
        return x
    return drop(x, rate, random_bits(key, x.shape))


def drop(x: Float[Array, "..."], rate: float, bits: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """Zero `x` where its random bits are below a share `rate` of their range; scale up the rest."""
    return jnp.where(is_kept(bits, rate), x / (1.0 - rate), 0.0)


def is_kept(bits: UInt32[Array, "..."], rate: float) -> Bool[Array, "..."]:
    """Which elements survive a dropout of this rate."""
    return bits >= jnp.uint32(rate * 2**32)


def random_bits(key: PRNGKeyArray, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """32 bits an element: a hash of its index in the flattened array and of the key.

    The first axis counts the rows in context.
    """
    rows = rows_in_context()
    index = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        position = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        if axis == 0 and rows.stride != 1:
            position = position * jnp.uint32(rows.stride) + jnp.uint32(rows.first)
        stride = math.prod(shape[axis + 1 :]) % 2**32
        index += position * jnp.uint32(stride)
    return hashed(index, *jax.random.key_data(key))


def hashed(
    index: UInt32[Array, "..."], first: UInt32[Array, ""], second: UInt32[Array, ""]
) -> UInt32[Array, "..."]:
    """32 bits for each index; `first` and `second` are the two words of a key.

    A dozen integer operations; JAX's threefry takes a hundred, more time than the layers' matrix
    products on a CPU. The mixing is MurmurHash3's finaliser (A. Appleby), the second
    word of the key added half-way, so that two keys do not give shifted copies of one stream.
    """
    bits = index * jnp.uint32(0x9E3779B9) + first
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B) + second
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def split_key(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    """`count` independent keys, or as many Nones where dropout is off."""
    return [None] * count if key is None else list(jax.random.split(key, count))
