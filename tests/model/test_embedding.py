"""The gradient of the segment table: as of an ordinary lookup, without its scatter-add."""

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.model.embedding import lookup_few


def test_segments_have_the_gradient_of_a_lookup_without_a_scatter():
    table = jax.random.normal(jax.random.key(0), (2, 24))
    ids = jax.random.randint(jax.random.key(1), (4, 33), 0, 2)
    cotangent = jax.random.normal(jax.random.key(2), (4, 33, 24))

    def gradient(lookup):
        return jax.jit(jax.grad(lambda table: (lookup(table, ids) * cotangent).sum()))

    np.testing.assert_array_equal(lookup_few(table, ids), table[ids])
    plain, ours = gradient(lambda table, ids: jnp.take(table, ids, axis=0)), gradient(lookup_few)
    np.testing.assert_allclose(ours(table), plain(table), rtol=1e-5, atol=1e-5)
    assert "scatter" in plain.lower(table).as_text()
    assert "scatter" not in ours.lower(table).as_text()
