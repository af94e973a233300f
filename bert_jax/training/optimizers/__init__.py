"""Optimizers by the name that `config.optimizer.name` gives.

To add one, write a function of (settings, schedule) in a new file and register it here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bert_jax.common.errors import UserError
from bert_jax.training.optimizers.adamw import adamw
from bert_jax.training.optimizers.base import Optimizer
from bert_jax.training.optimizers.lamb import lamb
from bert_jax.training.optimizers.muon import muon
from bert_jax.training.optimizers.normuon import normuon
from bert_jax.training.optimizers.soap import soap
from bert_jax.training.optimizers.stable_adamw import stable_adamw
from bert_jax.training.optimizers.wrappers import AverageState, average_tail, scale_by_rules
from bert_jax.training.schedules import make_schedule
from bert_jax.training.settings import OptimizerSettings

OPTIMIZERS: dict[str, Callable[[OptimizerSettings, optax.Schedule], Optimizer]] = {
    "adamw": adamw,
    "lamb": lamb,
    "stable_adamw": stable_adamw,
    "muon": muon,
    "normuon": normuon,
    "soap": soap,
}


def make_optimizer(settings: OptimizerSettings) -> Optimizer:
    """The optimizer of a run, with its schedule and what goes with any optimizer.

    These are clipping of the whole gradient before it, and after it the learning-rate factors of
    `config.optimizer.rates` and the average of the last parameters.

    Raises:
      UserError: its name or its schedule is not registered, or the warm-up does not fit.
    """
    if settings.name not in OPTIMIZERS:
        raise UserError(
            f"config.optimizer.name is {settings.name!r}: choose {' or '.join(OPTIMIZERS)}"
        )
    optimizer = OPTIMIZERS[settings.name](settings, make_schedule(settings))
    parts = [optimizer.update]
    if settings.clip_norm:
        parts.insert(0, optax.clip_by_global_norm(settings.clip_norm))
    if settings.rates:
        parts.append(scale_by_rules(settings.rates))
    update = optax.chain(*parts) if len(parts) > 1 else optimizer.update
    if settings.average_last:
        update = average_tail(update, settings.total_steps, settings.average_last)
    return optimizer._replace(update=update)


def restart_schedules(opt_state: Any) -> Any:
    """The state with its schedules, and the average of the last parameters, at step 0.

    Moments and their counts stay.
    """

    def restart(node: Any) -> Any:
        if isinstance(node, optax.ScaleByScheduleState):
            return node._replace(count=jnp.zeros_like(node.count))
        if isinstance(node, AverageState):
            return node._replace(
                inner=restart_schedules(node.inner),
                steps=jnp.zeros_like(node.steps),
                averaged=jnp.zeros_like(node.averaged),
            )
        return node

    return jax.tree.map(
        restart,
        opt_state,
        is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState | AverageState),
    )


__all__ = ["OPTIMIZERS", "Optimizer", "make_optimizer", "restart_schedules"]
