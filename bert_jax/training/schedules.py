"""Learning-rate schedules: the learning rate at a step as a share of its peak.

Every schedule begins with a linear warm-up. `config.optimizer.restarts` begins it again at later
steps of a run (re-warming), each time with a warm-up and a peak of its own.

To add one, write a function of `OptimizerSettings` and `Section` that returns the share after the
warm-up, and register it in `SCHEDULES`; `config.optimizer.schedule` names it.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from bert_jax.common.errors import UserError
from bert_jax.training.settings import OptimizerSettings, Section

Step = Any  # a number, or an array of the traced program
Share = Callable[[Step], Any]  # of a step counted from the begin of a section


def linear(settings: OptimizerSettings, section: Section) -> Share:
    """From 1 to `final_lr_fraction` (BERT, https://arxiv.org/abs/1810.04805, appendix A.2)."""
    return polynomial_of(1.0, settings, section)


def polynomial(settings: OptimizerSettings, section: Section) -> Share:
    """As linear, with the remaining share of the decay raised to `decay_power`."""
    return polynomial_of(settings.decay_power, settings, section)


def polynomial_of(power: float, settings: OptimizerSettings, section: Section) -> Share:
    final = settings.final_lr_fraction
    return lambda step: final + (1 - final) * (1 - _progress(section, step)) ** power


def cosine(settings: OptimizerSettings, section: Section) -> Share:
    """Half a cosine from 1 to `final_lr_fraction` (https://arxiv.org/abs/1608.03983)."""
    final = settings.final_lr_fraction
    return lambda step: (
        final + (1 - final) * 0.5 * (1 + jnp.cos(math.pi * _progress(section, step)))
    )


def inverse_sqrt(settings: OptimizerSettings, section: Section) -> Share:
    """1 at the end of the warm-up, then falls with 1 / sqrt(step)."""
    del settings
    warmup = max(section.warmup_steps, 1)
    return lambda step: jnp.sqrt(warmup / jnp.maximum(step, warmup))


def transformer(settings: OptimizerSettings, section: Section) -> Share:
    """`inverse_sqrt` with the peak of the Transformer paper.

    d_model^-0.5 min(step^-0.5, step warmup^-1.5) of https://arxiv.org/abs/1706.03762, equation 3:
    the peak is learning_rate / sqrt(hidden_size * warmup_steps), and learning_rate a factor (1.0 in
    the paper). The warm-up is linear, so that the factor applies to all steps.
    """
    peak = 1 / math.sqrt(settings.hidden_size * max(section.warmup_steps, 1))
    share = inverse_sqrt(settings, section)
    return lambda step: peak * share(step)


def wsd(settings: OptimizerSettings, section: Section) -> Share:
    """Warm-up, stable, decay (https://arxiv.org/abs/2404.06395): 1, then a decay at the end.

    The last `decay_steps` fall to `final_lr_fraction`: linearly, or as 1 - sqrt
    (`decay_shape`; https://arxiv.org/abs/2405.18392); before a restart, nothing decays. Any
    checkpoint before them can be the begin of another decay (`config.init_from` with
    `config.init_state=all`).
    """
    decay_steps, final = settings.decay_steps, settings.final_lr_fraction
    begin = section.steps - decay_steps

    def share(step: Step) -> Any:
        if not section.is_last:
            return 1.0
        done = jnp.clip((step - begin) / decay_steps, 0, 1)
        fallen = jnp.sqrt(done) if settings.decay_shape == "sqrt" else done
        return 1 - (1 - final) * fallen

    return share


SCHEDULES: dict[str, Callable[[OptimizerSettings, Section], Share]] = {
    "linear": linear,
    "polynomial": polynomial,
    "cosine": cosine,
    "inverse_sqrt": inverse_sqrt,
    "transformer": transformer,
    "wsd": wsd,
}
DECAY_SHAPES = ("linear", "sqrt")


def make_schedule(settings: OptimizerSettings) -> optax.Schedule:
    """The schedule that `config.optimizer.schedule` names: the share of the peak at a step.

    Raises:
      UserError: it is not registered, or a warm-up or decay does not fit into the run.
    """
    if settings.schedule not in SCHEDULES:
        raise UserError(
            f"config.optimizer.schedule is {settings.schedule!r}: choose {' or '.join(SCHEDULES)}"
        )
    if settings.decay_shape not in DECAY_SHAPES:
        raise UserError(
            f"config.optimizer.decay_shape is {settings.decay_shape!r}: choose "
            f"{' or '.join(DECAY_SHAPES)}"
        )
    sections = settings.sections
    for section in sections:
        _check(settings, section)
    schedules = [_with_warmup(settings, section) for section in sections]
    starts = [section.start for section in sections[1:]]
    return optax.join_schedules(schedules, starts) if starts else schedules[0]


def _with_warmup(settings: OptimizerSettings, section: Section) -> optax.Schedule:
    after = SCHEDULES[settings.schedule](settings, section)

    def share(step: Step) -> Any:
        if not section.warmup_steps:
            return section.peak * after(step)
        warmup = step / section.warmup_steps * after(section.warmup_steps)
        return section.peak * jnp.where(step < section.warmup_steps, warmup, after(step))

    return share


def _progress(section: Section, step: Step) -> Any:
    """How much of the steps after the warm-up is done, in [0, 1]."""
    return jnp.clip((step - section.warmup_steps) / (section.steps - section.warmup_steps), 0, 1)


def _check(settings: OptimizerSettings, section: Section) -> None:
    where = f" (of the part that begins at step {section.start})" if section.start else ""
    if not 0 <= section.warmup_steps < section.steps:
        raise UserError(
            f"config.warmup_steps is {section.warmup_steps} and config.total_steps is "
            f"{section.steps}{where}: warm up over fewer steps than the run has"
        )
    decay_steps = settings.decay_steps
    decays = settings.schedule == "wsd" and section.is_last
    if decays and not 0 < decay_steps <= section.steps - section.warmup_steps:
        raise UserError(
            f"config.optimizer.decay_steps is {decay_steps} steps, with "
            f"{section.steps - section.warmup_steps} steps after the warm-up{where}: decay over 1 "
            "step or more, and no more than these"
        )
