"""The checks of signatures find what is wrong, in functions with and without arrays."""

import jax.numpy as jnp
import jaxtyping
import pytest
from beartype.roar import BeartypeCallHintViolation

from bert_jax.corpus.tokenizers.base import is_unspaced
from bert_jax.model.attention.rotary import rotate


def test_arrays_of_another_shape_are_found():
    angles = jnp.zeros((2, 4, 1, 4))
    rotate(jnp.zeros((2, 4, 3, 8)), (angles, angles))
    for shape in ((2, 4, 8), (2, 5, 3, 8)):  # no heads; more tokens than angles
        with pytest.raises(jaxtyping.TypeCheckError):
            rotate(jnp.zeros(shape), (angles, angles))


def test_values_of_another_type_are_found():
    assert not is_unspaced("a")
    with pytest.raises(BeartypeCallHintViolation):
        is_unspaced(b"a")
