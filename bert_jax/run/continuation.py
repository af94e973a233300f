"""Whether a run may continue with a changed config: the future may change, the past may not."""

import dataclasses
from collections.abc import Sequence

from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings
from bert_jax.stream.phases import Phase
from bert_jax.training.schedules import make_schedule

JUMP = 2.0  # a learning rate that rises by more at once, after a longer run was asked for, is said


def check(old: RunSettings, new: RunSettings, step: int, steps: Sequence[int]) -> None:
    """Check that a run which is saved at `step` can continue with `new` instead of `old`.

    Args:
      old: what it was trained with.
      new: what it is to continue with.
      step: of its newest checkpoint.
      steps: of all its checkpoints.

    Raises:
      UserError: a step before `step` would have other batches, or the learning rate would jump.
    """
    if new.total_steps < step:
        raise UserError(
            f"config.total_steps is {new.total_steps}, and the run is at step {step} already: set "
            f"it to {step} or more, or go back with --from_step"
        )
    before, after = _past(old.stream.phases, step), _past(new.stream.phases, step)
    if before != after:
        borders = [
            f"{[phase.stop for phase in settings.stream.phases]} with total_steps="
            f"{settings.total_steps}"
            for settings in (old, new)
        ]
        raise UserError(
            f"the phases end at the steps {borders[0]}, and now at {borders[1]}: steps before "
            f"the checkpoint {step} would have other batches. Give config.stream.phases shares "
            "`until` "
            "and fields that leave these steps as they were; what comes after them may change"
        )
    if old.total_steps == new.total_steps:
        return
    rates = [
        settings.training.optimizer.learning_rate
        * float(make_schedule(settings.training.optimizer)(step))
        for settings in (old, new)
    ]
    if step and rates[1] > JUMP * rates[0]:
        raise UserError(
            f"config.total_steps was {old.total_steps} and is now {new.total_steps}: at step "
            f"{step} the learning rate would jump from {rates[0]:.3g} to {rates[1]:.3g}. Warm it "
            f"up again with config.optimizer.restarts=({{'at': {step / new.total_steps:.6g}, "
            "'warmup_steps': ...},), or continue from a checkpoint before the learning rate fell, "
            "with --from_step=STEP (saved: "
            f"{', '.join(map(str, steps))})"
        )


def _past(phases: Sequence[Phase], step: int) -> list[Phase]:
    """The phases up to `step`, without what only later steps depend on."""
    past = [phase for phase in phases if phase.start < step]
    return [
        dataclasses.replace(phase, stop=min(phase.stop, step))
        if phase.mask_rate == phase.final_mask_rate
        else phase
        for phase in past
    ]
