"""Matrix products: operands in the compute dtype, sums in float32, forward and backward alike."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

PRODUCT = "product"  # the name of a linear map's result in rematerialization policies


def contract(
    spec: str,
    x: Float[Array, "..."],
    y: Float[Array, "..."],
    dtype: DTypeLike,
    result_dtype: DTypeLike | None = None,
) -> Float[Array, "..."]:
    """`jnp.einsum(spec, x, y)` with both operands rounded to `dtype`.

    The products are summed in float32. So are those of the backward pass, whose operands are
    rounded likewise (JAX by itself would multiply in the dtype of the result); a gradient has the
    dtype of its operand, so that gradients of float32 parameters are never rounded.

    Args:
      spec: two operands; every index must occur in at least two of x, y and the result.
      x, y: the operands.
      dtype: of the operands when they are multiplied, float32 or bfloat16.
      result_dtype: of the result; None: `dtype`.
    """
    return _contract(spec, dtype, result_dtype or dtype, x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _contract(spec: str, dtype: DTypeLike, result_dtype: DTypeLike, x: Array, y: Array) -> Array:
    return _product(spec, x.astype(dtype), y.astype(dtype), result_dtype)


def _forward(spec: str, dtype: DTypeLike, result_dtype: DTypeLike, x: Array, y: Array):
    low_x, low_y = x.astype(dtype), y.astype(dtype)
    types = jnp.empty((0,), x.dtype), jnp.empty((0,), y.dtype)  # dtypes of the gradients
    return _product(spec, low_x, low_y, result_dtype), (low_x, low_y, *types)


def _backward(
    spec: str, dtype: DTypeLike, result_dtype: DTypeLike, saved: tuple[Array, ...], gradient: Array
) -> tuple[Array, Array]:
    del result_dtype
    x, y, like_x, like_y = saved
    terms, of_result = spec.split("->")
    of_x, of_y = terms.split(",")
    gradient = gradient.astype(dtype)
    return (
        _product(f"{of_result},{of_y}->{of_x}", gradient, y, like_x.dtype),
        _product(f"{of_x},{of_result}->{of_y}", x, gradient, like_y.dtype),
    )


_contract.defvjp(_forward, _backward)


def _product(spec: str, x: Array, y: Array, dtype: DTypeLike) -> Array:
    """The einsum, summed in float32."""

    def anywhere(x: Array, y: Array) -> Array:
        return jnp.einsum(spec, x, y, preferred_element_type=dtype)

    def on_cpu(x: Array, y: Array) -> Array:
        return _cpu_product(spec, x, y).astype(dtype)

    if x.dtype == jnp.float32:
        return anywhere(x, y)
    return jax.lax.platform_dependent(x, y, cpu=on_cpu, default=anywhere)


def _cpu_product(spec: str, x: Array, y: Array) -> Float[Array, "..."]:
    """A bfloat16 einsum in the form that XLA runs on a CPU's matrix units; float32 result.

    XLA (of 2026) uses them, which is seven times as fast, if the result is float32 and the left
    operand ends in the summed axes. XLA transposes one that does not, except where it sums
    over a single axis: there it folds the transpose back into the product, unless the axis is split
    in two. For the same reason the left operand must be the one whose unshared axes come first in
    the result.
    """
    terms, of_result = spec.split("->")
    of_x, of_y = terms.split(",")
    summed = "".join(axis for axis in of_x if axis in of_y and axis not in of_result)
    first = next(axis for axis in of_result if (axis in of_x) != (axis in of_y))
    if first in of_y:
        x, y, of_x, of_y = y, x, of_y, of_x
    if len(summed) == 1 and not of_x.endswith(summed):
        x, y = _halve(x, of_x.index(summed)), _halve(y, of_y.index(summed))
        of_x, of_y = (of.replace(summed, summed + "z") for of in (of_x, of_y))
        summed += "z"
    shared = [axis for axis in of_x if axis in of_y and axis in of_result]
    z = jax.lax.dot_general(
        x,
        y,
        (
            ([of_x.index(axis) for axis in summed], [of_y.index(axis) for axis in summed]),
            ([of_x.index(axis) for axis in shared], [of_y.index(axis) for axis in shared]),
        ),
        preferred_element_type=jnp.float32,
    )
    rest = [axis for axis in of_x + of_y if axis not in shared and axis not in summed]
    return z.transpose([(shared + rest).index(axis) for axis in of_result])


def _halve(x: Array, axis: int) -> Array:
    """`axis` as two axes, [2, half]; an odd axis is padded with a zero."""
    odd = x.shape[axis] % 2
    x = jnp.pad(x, [(0, odd if index == axis else 0) for index in range(x.ndim)])
    return x.reshape(*x.shape[:axis], 2, -1, *x.shape[axis + 1 :])


class Linear(nnx.Module):
    """A linear map of the last axes of its input, `inputs`, to the axes `outputs`."""

    def __init__(
        self,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        *,
        use_bias: bool,
        dtype: DTypeLike,
        kernel_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ):
        """The kernel is drawn by `kernel_init`; the bias, if there is one, starts at zero."""
        self.dtype = dtype
        self.axes = len(inputs)
        self.kernel = nnx.Param(kernel_init(rngs.params(), (*inputs, *outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs)) if use_bias else None

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """[..., *inputs] to [..., *outputs] in `dtype`."""
        kernel = self.kernel[...]
        rows = "abcd"[: x.ndim - self.axes]
        inputs, outputs = "ijk"[: self.axes], "uvw"[: kernel.ndim - self.axes]
        y = contract(f"{rows}{inputs},{inputs}{outputs}->{rows}{outputs}", x, kernel, self.dtype)
        y = checkpoint_name(y, PRODUCT)
        if self.bias is None:
            return y
        return (y.astype(jnp.float32) + self.bias[...]).astype(self.dtype)
