"""Learning-rate schedules: the learning rate at a step as a share of its peak.

To add one, write a function of `OptimizerSettings` and register it in `SCHEDULES`;
`config.optimizer.schedule` names it.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from bert_jax.common.errors import UserError
from bert_jax.training.settings import OptimizerSettings


def linear(settings: OptimizerSettings) -> optax.Schedule:
    """Linear warm-up from 0 over `warmup_steps`, then linear decay to `final_lr_fraction`.

    BERT's schedule (https://arxiv.org/abs/1810.04805, appendix A.2).
    """
    warmup = optax.linear_schedule(0.0, 1.0, settings.warmup_steps)
    decay_steps = settings.total_steps - settings.warmup_steps
    decay = optax.linear_schedule(1.0, settings.final_lr_fraction, decay_steps)
    return optax.join_schedules([warmup, decay], boundaries=[settings.warmup_steps])


SCHEDULES: dict[str, Callable[[OptimizerSettings], optax.Schedule]] = {"linear": linear}


def make_schedule(settings: OptimizerSettings) -> optax.Schedule:
    """The schedule that `config.optimizer.schedule` names.

    Raises:
      UserError: it is not registered, or the warm-up does not fit into the run.
    """
    if settings.schedule not in SCHEDULES:
        raise UserError(
            f"config.optimizer.schedule is {settings.schedule!r}: choose {' or '.join(SCHEDULES)}"
        )
    if not 0 <= settings.warmup_steps < settings.total_steps:
        raise UserError(
            f"config.warmup_steps is {settings.warmup_steps} and config.total_steps is "
            f"{settings.total_steps}: warm up over fewer steps than the run has"
        )
    schedule = SCHEDULES[settings.schedule](settings)
    return rewarmed(schedule, settings) if settings.rewarm_step else schedule


def rewarmed(schedule: optax.Schedule, settings: OptimizerSettings) -> optax.Schedule:
    """`schedule`, which from `rewarm_step` on warms up from 0 again over `warmup_steps`."""
    begin = settings.rewarm_step
    rise = optax.linear_schedule(0.0, 1.0, max(settings.warmup_steps, 1))

    def learning_rate(step):
        return schedule(step) * jnp.where(step < begin, 1.0, rise(step - begin))

    return learning_rate
