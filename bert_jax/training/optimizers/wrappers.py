"""What goes with any optimizer: learning-rate factors by name, and the average of the tail."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bert_jax.training.parameter_rules import assign


def scale_by_rules(rules: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Multiply the update of each parameter by its factor; 0 freezes it.

    Args:
      rules: (regex, factor) that cover all parameters, as `parameter_rules.assign` takes them.
    """

    def update(updates, state, params=None):
        del params
        scaled = jax.tree.map(lambda leaf, factor: factor * leaf, updates, assign(rules, updates))
        return scaled, state

    return optax.GradientTransformation(optax.init_empty_state, update)


class AverageState(NamedTuple):
    """The state of the optimizer inside, and the mean of the parameters of the last steps.

    Attributes:
      inner: of the optimizer.
      steps: of the run.
      averaged: how many steps the mean is over; a float, so that it stays as it was together with
        the mean if an update is not finite and therefore left out.
      mean: of no meaning while `averaged` is 0.
    """

    inner: Any
    steps: Int[Array, ""]
    averaged: Float[Array, ""]
    mean: Any


def average_tail(
    inner: optax.GradientTransformation, total_steps: int, last: int
) -> optax.GradientTransformation:
    """The last update of a run replaces the parameters by their mean over the last steps.

    Training is as without it up to the last step, and everything after the run sees the mean
    (https://arxiv.org/abs/2306.03241 averages checkpoints in the same way).

    Args:
      inner: the optimizer.
      total_steps: of the run.
      last: steps that the mean is over.
    """

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AverageState(inner.init(params), jnp.int32(0), jnp.float32(0), zeros)

    def update(gradient, state, params=None):
        updates, of_inner = inner.update(gradient, state.inner, params)
        count = jnp.where(state.steps >= total_steps - last, state.averaged + 1, 0.0)
        share = jnp.where(count > 0, 1 / jnp.maximum(count, 1), 0.0)
        mean = jax.tree.map(
            lambda mean, param, update: mean + share * (param + update - mean),
            state.mean,
            params,
            updates,
        )
        is_end = state.steps == total_steps - 1
        updates = jax.tree.map(
            lambda update, mean, param: jnp.where(is_end, mean - param, update),
            updates,
            mean,
            params,
        )
        count = jnp.where(is_end, 0.0, count)  # a run that is made longer averages anew
        return updates, AverageState(of_inner, state.steps + 1, count, mean)

    return optax.GradientTransformation(init, update)
