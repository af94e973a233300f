"""SOAP (https://arxiv.org/abs/2409.11321, algorithms 3 and 4): Adam in the eigenbasis of Shampoo.

The bases are the eigenvectors of running means of the gradient's products, G G' and G' G. The first
step only begins these, as in the authors' code; then each `soap_every` steps the bases are renewed
by one power iteration and a QR decomposition.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from bert_jax.training.optimizers.base import Optimizer
from bert_jax.training.optimizers.matrices import MATRICES, by_matrix, from_matrices
from bert_jax.training.optimizers.muon import with_adamw_on_the_rest
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import OptimizerSettings

Matrices = Float[Array, "M I O"]


class Side(NamedTuple):
    """One side of the matrices of an array: a running mean of products, and its eigenvectors."""

    statistics: Float[Array, "M N N"]
    basis: Float[Array, "M N N"]


class Moments(NamedTuple):
    """The state of the matrices of one array.

    Attributes:
      first: mean of the gradient, not rotated.
      second: mean square of the rotated gradient.
      inputs, outputs: the sides.
    """

    first: Matrices
    second: Matrices
    inputs: Side
    outputs: Side


class SoapState(NamedTuple):
    """Steps so far, and the moments by array."""

    steps: Int[Array, ""]
    moments: Any


def soap(settings: OptimizerSettings, schedule: optax.Schedule) -> Optimizer:
    """SOAP on the encoder's matrices, with the rate `muon_learning_rate`; AdamW on the rest."""

    def of_matrices(learning_rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.chain(
            scale_by_soap(settings.b1, settings.b2, settings.epsilon, settings.soap_every),
            optax.add_decayed_weights(settings.weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )

    return with_adamw_on_the_rest("soap", of_matrices, settings, schedule)


def scale_by_soap(b1: float, b2: float, epsilon: float, every: int) -> optax.GradientTransformation:
    """The update for arrays that hold matrices.

    Args:
      b1, b2: of the two moments; the products are averaged with b2.
      epsilon: added to the root of the second moment.
      every: steps between two renewals of the bases.
    """

    def init(params):
        def moments(leaf: Array, axes: Any) -> Moments:
            zeros = jnp.zeros_like(by_matrix(leaf, axes))
            count, *sizes = zeros.shape
            sides = [Side(*(jnp.zeros((count, size, size), leaf.dtype),) * 2) for size in sizes]
            return Moments(zeros, zeros, *sides)

        return SoapState(
            jnp.zeros((), jnp.int32), jax.tree.map(moments, params, assign(MATRICES, params))
        )

    def update(gradient, state, params=None):
        del params
        steps = state.steps  # that made an update: the first one begins the bases
        is_renewal = (steps > 0) & (steps % every == 0)

        def of_array(leaf: Array, moments: Moments, axes: Any) -> Moments:
            g = by_matrix(leaf, axes)
            products = jnp.einsum("mio,mjo->mij", g, g), jnp.einsum("mio,mip->mop", g, g)
            sides = [
                _with_product(side, product, b2, steps == 0, is_renewal)
                for side, product in zip(moments[2:], products, strict=True)
            ]
            # Averages of before the renewal belong to the basis of before it.
            rotated = _rotate(g, moments.inputs.basis, moments.outputs.basis)
            first = jnp.where(steps == 0, 0.0, b1 * moments.first + (1 - b1) * g)
            second = jnp.where(steps == 0, 0.0, b2 * moments.second + (1 - b2) * rotated**2)
            return Moments(first, second, *sides)

        def direction(leaf: Array, old: Moments, new: Moments, axes: Any) -> Array:
            count = jnp.maximum(steps, 1)
            bases = old.inputs.basis, old.outputs.basis
            mean = _rotate(new.first, *bases) / (1 - b1**count)
            root = jnp.sqrt(new.second / (1 - b2**count)) + epsilon
            return from_matrices(_rotate_back(mean / root, *bases), leaf.shape, axes)

        axes = assign(MATRICES, gradient)
        moments = jax.tree.map(of_array, gradient, state.moments, axes)
        updates = jax.tree.map(direction, gradient, state.moments, moments, axes)
        return updates, SoapState(steps + 1, moments)

    return optax.GradientTransformation(init, update)


def _with_product(
    side: Side,
    product: Float[Array, "M N N"],
    b2: float,
    is_first: Bool[Array, ""],
    is_renewal: Bool[Array, ""],
) -> Side:
    """A side after a step."""
    statistics = b2 * side.statistics + (1 - b2) * product

    def begin() -> Array:
        return jnp.linalg.eigh(statistics).eigenvectors[:, :, ::-1]  # largest first, as QR keeps

    def renew() -> Array:
        return jnp.linalg.qr(statistics @ side.basis).Q

    index = jnp.where(is_first, 0, jnp.where(is_renewal, 1, 2))
    return Side(statistics, jax.lax.switch(index, [begin, renew, lambda: side.basis]))


def _rotate(x: Matrices, inputs: Float[Array, "M I I"], outputs: Float[Array, "M O O"]) -> Matrices:
    return jnp.einsum("mij,mio,mop->mjp", inputs, x, outputs)


def _rotate_back(
    x: Matrices, inputs: Float[Array, "M I I"], outputs: Float[Array, "M O O"]
) -> Matrices:
    return jnp.einsum("mij,mjp,mop->mio", inputs, x, outputs)
