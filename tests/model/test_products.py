"""Matrix products equal the plain einsum in both passes, in every order of axes the model has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.model.products import contract

SIZES = {"b": 4, "l": 6, "m": 6, "n": 2, "h": 8, "d": 16, "f": 12, "p": 5, "v": 40, "k": 3}
SPECS = [
    "bld,df->blf",  # feed-forward
    "bld,dknh->blknh",  # query, key, value
    "blnh,nhd->bld",  # attention's output
    "blnh,bmnh->bnlm",  # scores
    "bnlm,bmnh->blnh",  # mixing
    "bpd,vd->bpv",  # the tied decoder; an odd number of predictions
]


def operands(spec: str) -> list[jax.Array]:
    """Two operands and a cotangent of the result."""
    terms = spec.replace("->", ",").split(",")
    keys = jax.random.split(jax.random.key(0), len(terms))
    return [
        jax.random.normal(key, [SIZES[axis] for axis in term])
        for key, term in zip(keys, terms, strict=True)
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", SPECS)
def test_equals_the_einsum_and_its_gradients(spec, dtype):
    x, y, cotangent = (a.astype(dtype).astype(jnp.float32) for a in operands(spec))
    expected, transpose = jax.vjp(lambda x, y: jnp.einsum(spec, x, y), x, y)

    @jax.jit
    def ours(x, y, cotangent):
        result, transpose = jax.vjp(lambda x, y: contract(spec, x, y, dtype, jnp.float32), x, y)
        return result, transpose(cotangent)

    result, gradients = ours(x, y, cotangent)
    # Operands are exact in either dtype, and sums are made in float32: rounding alone is left.
    for found, wanted in zip((result, *gradients), (expected, *transpose(cotangent)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


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
