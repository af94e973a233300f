"""LAMB (https://arxiv.org/abs/1904.00962, algorithm 2): AdamW with a trust ratio for each tensor.

Published recipes for BERT disagree on which parameters adapt. `config.optimizer.lamb_adapts` is
`matrices` (MLCommons: biases and norms are updated as by AdamW) or `all` (NVIDIA). Query, key and
value, and the halves of a gated layer, are tensors of their own, as in the published models.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bert_jax.common.errors import UserError
from bert_jax.training.optimizers.base import DECAYED, Optimizer
from bert_jax.training.optimizers.matrices import norm, tensor_axes
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import OptimizerSettings

ADAPTS = ("matrices", "all")


def lamb(settings: OptimizerSettings, schedule: optax.Schedule) -> Optimizer:
    """LAMB on all parameters.

    Raises:
      UserError: `config.optimizer.lamb_adapts` is none of the choices.
    """
    if settings.lamb_adapts not in ADAPTS:
        raise UserError(
            f"config.optimizer.lamb_adapts is {settings.lamb_adapts!r}: choose "
            f"{' or '.join(ADAPTS)}"
        )

    def learning_rate(step):
        return settings.learning_rate * schedule(step)

    update = optax.chain(
        optax.scale_by_adam(settings.b1, settings.b2, settings.epsilon),
        optax.add_decayed_weights(settings.weight_decay, lambda params: assign(DECAYED, params)),
        scale_by_trust_ratio(adapts_all=settings.lamb_adapts == "all"),
        optax.scale_by_learning_rate(learning_rate),
    )
    return Optimizer(update, {"learning_rate": learning_rate})


def scale_by_trust_ratio(*, adapts_all: bool) -> optax.GradientTransformation:
    """Scale the update of each tensor to the tensor's norm; where either norm is 0, not at all."""

    def update(updates, state, params=None):
        def scale(
            update: Float[Array, "..."],
            param: Float[Array, "..."],
            axes: tuple[int, ...],
            is_matrix: bool,
        ) -> Float[Array, "..."]:
            if not (adapts_all or is_matrix):
                return update
            of_param, of_update = norm(param, axes), norm(update, axes)
            is_zero = (of_param == 0) | (of_update == 0)
            return update * jnp.where(is_zero, 1.0, of_param / jnp.where(is_zero, 1.0, of_update))

        return jax.tree.map(
            scale, updates, params, tensor_axes(updates), assign(DECAYED, updates)
        ), state

    return optax.GradientTransformation(optax.init_empty_state, update)
