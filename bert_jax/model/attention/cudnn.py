"""cuDNN's fused attention (NVIDIA GPUs): rows of one document and padding."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def attend(
    query: Float[Array, "B L N H"],
    key: Float[Array, "B L N H"],
    value: Float[Array, "B L N H"],
    segment_ids: Int[Array, "B L"],
) -> Float[Array, "B L N H"]:
    """Every position, padding too, attends to the one document of its row.

    cuDNN gets the number of keys of each row instead of a mask: no [L, L] array exists. The
    queries of the padding are computed too, because cuDNN leaves the output of queries that it
    skips uninitialized.
    """
    # A row of only padding gets one key: the softmax over no key would be 0 / 0.
    lengths = jnp.maximum((segment_ids > 0).sum(axis=1, dtype=jnp.int32), 1)
    return jax.nn.dot_product_attention(
        query, key, value, key_value_seq_lengths=lengths, implementation="cudnn"
    )
