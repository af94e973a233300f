"""Dropout from a key that is passed in, never kept."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32


def dropout(x: Float[Array, "..."], rate: float, key: PRNGKeyArray | None) -> Float[Array, "..."]:
    """Zero a share `rate` of `x` and scale up the rest; without a key or a rate, `x` itself.

    The mask is a function of the key and the element's place alone, not of the sharding.
    """
    if key is None or rate == 0.0:
        return x
    keep = random_bits(key, x.shape) >= jnp.uint32(rate * 2**32)
    return jnp.where(keep, x / (1.0 - rate), 0.0)


def random_bits(key: PRNGKeyArray, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """32 bits an element: the element's place, hashed with the key.

    A dozen integer operations, where JAX's threefry takes a hundred, which cost more than the
    layers' matrix products on a CPU. The mixing is MurmurHash3's finaliser (A. Appleby), the second
    word of the key added half-way, so that two keys do not give shifted copies of one stream.
    """
    first, second = jax.random.key_data(key)
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = math.prod(shape[axis + 1 :]) % 2**32
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    bits = place * jnp.uint32(0x9E3779B9) + first
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B) + second
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def split_key(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    """`count` independent keys, or as many Nones where dropout is off."""
    return [None] * count if key is None else list(jax.random.split(key, count))
