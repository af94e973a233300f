"""Optimizers by the name that `config.optimizer.name` gives.

To add one, write a function of (settings, schedule) in a new file and register it here.
"""

from collections.abc import Callable

import optax

from bert_jax.common.errors import UserError
from bert_jax.training.optimizers.adamw import adamw
from bert_jax.training.optimizers.base import Optimizer, scaled_by_name
from bert_jax.training.optimizers.muon import muon
from bert_jax.training.schedules import make_schedule
from bert_jax.training.settings import OptimizerSettings

OPTIMIZERS: dict[str, Callable[[OptimizerSettings, optax.Schedule], Optimizer]] = {
    "adamw": adamw,
    "muon": muon,
}


def make_optimizer(settings: OptimizerSettings) -> Optimizer:
    """The optimizer of a run, with its schedule and with clipping of the whole gradient.

    Raises:
      UserError: its name or its schedule is not registered, or the warm-up does not fit.
    """
    if settings.name not in OPTIMIZERS:
        raise UserError(
            f"config.optimizer.name is {settings.name!r}: choose {' or '.join(OPTIMIZERS)}"
        )
    optimizer = OPTIMIZERS[settings.name](settings, make_schedule(settings))
    if settings.rate_factors:
        scale = scaled_by_name(settings.rate_factors)
        optimizer = optimizer._replace(update=optax.chain(optimizer.update, scale))
    if settings.clip_norm:
        clip = optax.clip_by_global_norm(settings.clip_norm)
        return optimizer._replace(update=optax.chain(clip, optimizer.update))
    return optimizer


__all__ = ["OPTIMIZERS", "Optimizer", "make_optimizer"]
