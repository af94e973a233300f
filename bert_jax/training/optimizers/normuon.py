"""NorMuon (https://arxiv.org/abs/2510.05491, algorithm 1): Muon with a second moment a neuron.

The orthogonal update of each output neuron is divided by the root of its running mean square, and
the whole scaled to a root mean square of 0.2. The second moment is one number for each neuron.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float
from optax.contrib import scale_by_muon

from bert_jax.training.optimizers.base import Optimizer
from bert_jax.training.optimizers.matrices import MATRICES, by_matrix, from_matrices
from bert_jax.training.optimizers.muon import with_adamw_on_the_rest
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import OptimizerSettings

EPSILON = 1e-8
RMS = 0.2  # of an update


class NorMuonState(NamedTuple):
    """Momentum of each matrix, and the second moment of its output neurons."""

    muon: Any
    neurons: Any  # [M, 1, O] of each array with M matrices


def normuon(settings: OptimizerSettings, schedule: optax.Schedule) -> Optimizer:
    """NorMuon on the encoder's matrices, AdamW on the other parameters."""

    def of_matrices(learning_rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.chain(
            scale_by_normuon(settings.muon_momentum, settings.normuon_b2),
            optax.add_decayed_weights(settings.weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )

    return with_adamw_on_the_rest("normuon", of_matrices, settings, schedule)


def scale_by_normuon(momentum: float, b2: float) -> optax.GradientTransformation:
    """The update for arrays that hold matrices.

    Args:
      momentum: of the gradient, a plain moving average.
      b2: of the second moment.
    """
    muon = scale_by_muon(
        beta=momentum,
        nesterov=False,
        weight_dimension_numbers=_axes,
    )

    def init(params):
        neurons = jax.tree.map(
            lambda leaf, axes: jnp.zeros_like(by_matrix(leaf, axes)[:, :1]), params, _axes(params)
        )
        return NorMuonState(muon.init(params), neurons)

    def update(gradient, state, params=None):
        orthogonal, of_muon = muon.update(gradient, state.muon, params)
        axes = _axes(gradient)
        neurons = jax.tree.map(
            lambda leaf, old, axes: (
                b2 * old + (1 - b2) * jnp.square(by_matrix(leaf, axes)).mean(axis=1, keepdims=True)
            ),
            orthogonal,
            state.neurons,
            axes,
        )

        def scale(leaf: Float[Array, "..."], second: Float[Array, "..."], axes: Any):
            x = by_matrix(leaf, axes) / (jnp.sqrt(second) + EPSILON)
            size = jnp.sqrt(jnp.square(x).sum((1, 2), keepdims=True))
            root = (x.shape[1] * x.shape[2]) ** 0.5
            return from_matrices(x * (RMS * root) / (size + EPSILON), leaf.shape, axes)

        updates = jax.tree.map(scale, orthogonal, neurons, axes)
        return updates, NorMuonState(of_muon, neurons)

    return optax.GradientTransformation(init, update)


def _axes(params: Any) -> Any:
    return assign(MATRICES, params)
