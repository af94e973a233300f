"""StableAdamW (https://arxiv.org/abs/2304.13013, algorithm 2): AdamW with AdaFactor's clipping.

The rate of a tensor is divided by max(1, RMS), the root mean square of gradient / sqrt(second
moment): where the second moment lags behind a gradient that grows, the step does not.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bert_jax.training.optimizers.base import DECAYED, Optimizer
from bert_jax.training.optimizers.matrices import tensor_axes
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import OptimizerSettings


def stable_adamw(settings: OptimizerSettings, schedule: optax.Schedule) -> Optimizer:
    """StableAdamW on all parameters."""

    def learning_rate(step):
        return settings.learning_rate * schedule(step)

    update = optax.chain(
        scale_by_stable_adam(settings),
        optax.scale_by_learning_rate(learning_rate),
    )
    return Optimizer(update, {"learning_rate": learning_rate})


def scale_by_stable_adam(settings: OptimizerSettings) -> optax.GradientTransformation:
    """Adam's update with the decay, both divided by max(1, RMS) of their tensor."""
    adam = optax.scale_by_adam(settings.b1, settings.b2, settings.epsilon)
    decay = optax.add_decayed_weights(settings.weight_decay, lambda params: assign(DECAYED, params))

    def update(gradient, state, params=None):
        updates, state = adam.update(gradient, state, params)
        updates, _ = decay.update(updates, decay.init(params), params)
        second = optax.tree.bias_correction(state.nu, settings.b2, state.count)

        def clip(
            update: Float[Array, "..."],
            gradient: Float[Array, "..."],
            second: Float[Array, "..."],
            axes: tuple[int, ...],
        ) -> Float[Array, "..."]:
            floor = settings.epsilon**2
            share = jnp.square(gradient) / jnp.maximum(second, floor)
            rms = jnp.sqrt(share.mean(axes, keepdims=True))
            return update / jnp.maximum(1.0, rms)

        clipped = jax.tree.map(clip, updates, gradient, second, tensor_axes(gradient))
        return clipped, state

    return optax.GradientTransformation(adam.init, update)
