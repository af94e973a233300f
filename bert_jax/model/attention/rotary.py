"""Rotary positions (RoFormer, https://arxiv.org/abs/2104.09864)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Angles = tuple[Float[Array, "B L 1 R"], Float[Array, "B L 1 R"]]


def rotary_angles(position_ids: Int[Array, "B L"], head_size: int, theta: float) -> Angles:
    """Cosine and sine of the angle of each position and of R = H/2 frequencies, in float32.

    Frequencies theta^(-2i/H), i < H/2 (RoFormer, section 3.2.2).
    """
    frequency = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    angle = position_ids[:, :, None, None].astype(jnp.float32) * frequency  # B L 1 R
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Float[Array, "B L N H"], angles: Angles) -> Float[Array, "B L N H"]:
    """Turn the pairs (x[i], x[i + H/2]) by their angles, as Hugging Face's `rotate_half` does."""
    cos, sin = angles
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)  # B L N H/2
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
