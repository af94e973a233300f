"""Whether a run may continue with a changed config: the future may change, the past may not."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.bucket import CHECKPOINTS, home
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings, parse
from bert_jax.model.compute_dtype import AUTO
from bert_jax.run.saved_config import Change, changes, flatten_saved, is_same_run
from bert_jax.run.workdir import CONFIG, IMPORTED, has_checkpoints, load_config, read_config
from bert_jax.stream.phases import Phase
from bert_jax.training.saved import saved_steps, set_aside_after
from bert_jax.training.schedules import make_schedule

JUMP = 2.0  # a learning rate that rises by more at once, after a longer run was asked for, is said


def go_back(workdir: Path, config: ConfigDict, step: int) -> None:
    """Continue at an earlier checkpoint with a changed config; later ones are set aside.

    With the config that the run has already, nothing is done, so that a command that is started
    again does not go back again.

    Raises:
      UserError: there is no such checkpoint.
    """
    path = workdir / CONFIG
    if path.exists() and not changes(read_config(path), config):
        return
    steps = saved_steps(home(workdir) / CHECKPOINTS)
    if step not in steps:
        raise UserError(
            f"--from_step={step}: {home(workdir) / CHECKPOINTS} holds the steps "
            f"{', '.join(map(str, steps)) or 'of no checkpoint'}"
        )
    set_aside_after(home(workdir) / CHECKPOINTS, step)


def check(workdir: Path, config: ConfigDict) -> list[Change]:
    """The fields that a run which continues in the directory changes; none for a new run.

    Raises:
      UserError: one of them may not change; the message shows all that may not. Or the directory
        holds an encoder that was imported, which has no optimizer state to continue with; or
        another kind of directory, whose files a run would overwrite.
    """
    path = workdir / CONFIG
    if path.exists():
        _expect_run(workdir, read_config(path))
    if (workdir / IMPORTED).exists():
        raise UserError(
            f"--workdir={workdir} holds an imported encoder: train from it in another --workdir, "
            f"with --config.init_from={workdir} (configs/continue_pretraining.py does)"
        )
    if not path.exists() or not has_checkpoints(workdir):
        return []
    found = changes(read_config(path), config)
    different = [
        f"{name} was {json.dumps(old)} and is now {json.dumps(new)}"
        for name, old, new in found
        if not is_same_run(name, old, new)
    ]
    if different:
        raise UserError(
            f"--workdir={workdir} holds a run with another config: {'; '.join(different)}. "
            "Use another --workdir, or the config that the run began with"
        )
    if found:
        steps = saved_steps(home(workdir) / CHECKPOINTS)
        expect_same_past(parse(load_config(workdir)), parse(config), steps[-1], steps)
    return found


def _expect_run(workdir: Path, values: Any) -> None:
    """Raise if `config.json` is not that of a run.

    Raises:
      UserError: it is that of something else.
    """
    if isinstance(values, dict) and "task" in values:
        kind = "a fine-tuning"
    elif isinstance(values, dict) and "model_type" in values:
        kind = "a folder of transformers"
    elif not isinstance(values, dict) or "total_steps" not in values:
        kind = f"a {CONFIG} that is not a run's"
    else:
        return
    raise UserError(
        f"--workdir={workdir} holds {kind}, and training there would overwrite its files: name "
        "another --workdir"
    )


def as_begun(workdir: Path, config: ConfigDict) -> ConfigDict:
    """A copy of `config` with what the run in `workdir` decided once, at its start.

    That is the step of `config.init_from` and of `config.distillation.teacher`, if they name none;
    the compute dtype, if it is auto; and the number of steps that fit into the budget, if none is
    given.
    """
    config = config.copy_and_resolve_references()
    path = workdir / CONFIG
    if not path.exists() or not has_checkpoints(workdir):
        return config
    begun = flatten_saved(read_config(path))
    config.init_from = _with_step(config.init_from, begun.get("init_from", ""))
    teacher = config.distillation.teacher
    config.distillation.teacher = _with_step(teacher, begun.get("distillation.teacher", ""))
    if config.model.compute_dtype == AUTO:
        config.model.compute_dtype = begun["model.compute_dtype"]
    if not config.total_steps and begun.get("budget") == config.budget:
        config.total_steps = begun["total_steps"]
    return config


def _with_step(given: str, begun: str) -> str:
    """`begun` if it is `given` with the step that was chosen when the run began, else `given`."""
    return begun if begun.rpartition("@")[:2] == (given, "@") else given


def expect_same_past(old: RunSettings, new: RunSettings, step: int, steps: Sequence[int]) -> None:
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
