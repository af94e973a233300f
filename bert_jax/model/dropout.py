"""Dropout from a key that is passed in, never kept."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def dropout(x: Float[Array, "..."], rate: float, key: PRNGKeyArray | None) -> Float[Array, "..."]:
    """Zero a share `rate` of `x` and scale up the rest; without a key or a rate, `x` itself.

    The mask is a function of the key and the element's place alone, not of the sharding.
    """
    if key is None or rate == 0.0:
        return x
    # Comparing raw bits spares the conversion to floats that `jax.random.bernoulli` makes.
    keep = jax.random.bits(key, x.shape, jnp.uint32) >= jnp.uint32(rate * 2**32)
    return jnp.where(keep, x / (1.0 - rate), 0.0)


def split_key(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    """`count` independent keys, or as many Nones where dropout is off."""
    return [None] * count if key is None else list(jax.random.split(key, count))
