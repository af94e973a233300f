"""Whether a state is finite: one reduction on the device, one number for the host."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


def first_not_finite(tree: Any) -> str | None:
    """The path of the first array with a NaN or infinity, as in `params/encoder/norm/scale`.

    Every process of a run must call it, and gets the same.
    """
    leaves = [
        (path, leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    index = int(_first([leaf for _, leaf in leaves])) if leaves else -1
    return None if index < 0 else jax.tree_util.keystr(leaves[index][0], simple=True, separator="/")


@jax.jit
def _first(leaves: list[Array]) -> Int[Array, ""]:
    """The index of the first array that is not finite; -1: all are."""
    is_bad = jnp.stack([~jnp.isfinite(leaf).all() for leaf in leaves])
    return jnp.where(is_bad.any(), jnp.argmax(is_bad), -1)
