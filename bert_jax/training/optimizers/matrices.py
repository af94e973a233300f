"""Which arrays are several tensors: a stored array may hold query, key and value, or two halves."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from optax.contrib import MuonDimensionNumbers

from bert_jax.training.parameter_rules import assign

# Of each matrix (its input axes, its output axes). An axis in neither (query, key, value;
# activation, gate) counts separate matrices. None: no matrix, or a table of vectors.
MATRICES = (
    (r"attention\.qkv\.kernel", MuonDimensionNumbers(0, (2, 3))),  # [D, 3, N, H]
    (r"attention\.output\.kernel", MuonDimensionNumbers((0, 1), 2)),  # [N, H, D]
    (r"feed_forward\.input\.kernel", MuonDimensionNumbers(0, -1)),  # [D, F] or [D, 2, F]
    (r"feed_forward\.output\.kernel", MuonDimensionNumbers(0, 1)),  # [F, D]
    (r"mlm_head\.transform\.kernel", MuonDimensionNumbers(0, 1)),  # [D, D]
    (r"(nsp_head|mlm_head|heads)\..*|embedding|bias|scale", None),
)
# The number of axes of one tensor where an array holds several; they are the axes 0 or 1.
_STACKED = (
    (r"attention\.qkv\.kernel", 1),  # [D, 3, N, H]
    (r"attention\.qkv\.bias", 0),  # [3, N, H]
    (r"feed_forward\.input\.kernel", 1),  # [D, 2, F]; of GELU [D, F]: one
    (r"feed_forward\.input\.bias", 0),  # [2, F]; of GELU [F]: one
    (r".*", None),
)


def tensor_axes(params: Any) -> Any:
    """For each array, the axes of one tensor: all, but the one that counts tensors."""

    def axes(leaf: Array, stacked: int | None) -> tuple[int, ...]:
        is_one = stacked is None or (stacked == 1 and leaf.ndim == 2) or leaf.ndim == 1
        return tuple(axis for axis in range(leaf.ndim) if is_one or axis != stacked)

    return jax.tree.map(axes, params, assign(_STACKED, params), is_leaf=lambda leaf: leaf is None)


def norm(x: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """The Euclidean norm over some axes, which stay with size 1."""
    return jnp.sqrt(jnp.square(x).sum(axes, keepdims=True))


def by_matrix(x: Float[Array, "..."], axes: MuonDimensionNumbers) -> Float[Array, "M I O"]:
    """The matrices of an array, input axes first; `from_matrices` is the inverse."""
    order, counts, inputs, outputs = _order(x.ndim, axes)
    sizes = [_size(x.shape, group) for group in (counts, inputs, outputs)]
    return x.transpose(order).reshape(sizes)


def from_matrices(
    matrices: Float[Array, "M I O"], shape: tuple[int, ...], axes: MuonDimensionNumbers
) -> Float[Array, "..."]:
    """The array of `shape` that these matrices are from."""
    order, *_ = _order(len(shape), axes)
    inverse = sorted(range(len(shape)), key=order.__getitem__)
    return matrices.reshape([shape[axis] for axis in order]).transpose(inverse)


def _order(ndim: int, axes: MuonDimensionNumbers) -> tuple[list[int], ...]:
    def group(given: Any) -> list[int]:
        return [axis % ndim for axis in ((given,) if isinstance(given, int) else given)]

    inputs, outputs = group(axes.reduction_axis), group(axes.output_axis)
    counts = [axis for axis in range(ndim) if axis not in inputs + outputs]
    return counts + inputs + outputs, counts, inputs, outputs


def _size(shape: tuple[int, ...], group: list[int]) -> int:
    size = 1
    for axis in group:
        size *= shape[axis]
    return size
