"""Matrix products equal the plain einsum in both passes, for every order of axes in the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.model.products import contract
from tests.model.product_reference import SPECS, operands, product_difference


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", SPECS)
def test_equals_the_einsum_and_its_gradients(spec, dtype):
    # Operands are exact in either dtype, and sums are made in float32: only rounding is left.
    assert product_difference(spec, dtype) < 2e-6


def test_gradients_of_float32_parameters_are_not_rounded():
    x, kernel, cotangent = operands("bld,df->blf")
    low = x.astype(jnp.bfloat16), kernel, cotangent.astype(jnp.bfloat16)

    def loss(x, kernel):
        return (contract("bld,df->blf", x, kernel, jnp.bfloat16) * low[2]).sum().astype(jnp.float32)

    to_x, to_kernel = jax.jit(jax.grad(loss, argnums=(0, 1)))(*low[:2])
    assert (to_x.dtype, to_kernel.dtype) == (jnp.bfloat16, jnp.float32)
    assert (to_kernel != to_kernel.astype(jnp.bfloat16).astype(jnp.float32)).any()


@pytest.mark.parametrize("rows", [1, 8])
def test_a_row_a_device_runs_too(rows):
    """XLA folds transposes where an axis has one element; the product must still be one it has."""
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((rows,), ("data",), auto, devices=jax.devices()[:rows])
    x = jnp.ones((rows, 6, 16), jnp.bfloat16)
    kernel = jnp.ones((16, 12))
    place = jax.NamedSharding(mesh, jax.P("data"))

    def loss(kernel, x):
        return contract("bld,df->blf", x, kernel, jnp.bfloat16, jnp.float32).sum()

    found = jax.jit(jax.grad(loss))(kernel, jax.device_put(x, place))
    np.testing.assert_array_equal(found, np.full((16, 12), rows * 6.0))
