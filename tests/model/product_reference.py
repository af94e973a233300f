"""Matrix products of the model in float64, with their gradients.

Without pytest, so that benchmarks/gpu.py can use it on a machine that has none.
"""

import jax
import jax.numpy as jnp
import numpy as np

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


def product_difference(spec: str, dtype: str) -> float:
    """How far a product and its gradients are from float64.

    Operands and cotangent are exact in `dtype`. The largest absolute difference as a share of the
    largest absolute value of each array.
    """
    rounded = [a.astype(dtype).astype(jnp.float32) for a in operands(spec)]

    @jax.jit
    def ours(x, y, cotangent):
        result, transpose = jax.vjp(lambda x, y: contract(spec, x, y, dtype, jnp.float32), x, y)
        return result, *transpose(cotangent)

    x, y, cotangent = (np.asarray(a, np.float64) for a in rounded)
    terms, of_result = spec.split("->")
    of_x, of_y = terms.split(",")
    expected = (
        np.einsum(spec, x, y),
        np.einsum(f"{of_result},{of_y}->{of_x}", cotangent, y),
        np.einsum(f"{of_x},{of_result}->{of_y}", x, cotangent),
    )
    return max(
        float(np.abs(np.asarray(found) - exact).max() / np.abs(exact).max())
        for found, exact in zip(ours(*rounded), expected, strict=True)
    )
