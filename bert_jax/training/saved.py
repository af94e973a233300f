"""The checkpoints in a directory: which are there, which are whole, what to use.

Nothing here imports Orbax, so that listing checkpoints starts fast.
"""

from pathlib import Path

from bert_jax.common import console
from bert_jax.common.bucket import COMMITTED, AnyPath, remove_tree
from bert_jax.common.errors import UserError
from bert_jax.training import digests

DAMAGED = ".damaged"  # ends the names of checkpoints that were set aside
LATER = ".later"  # ends those of checkpoints after the one that a run went back to
METRICS = "metrics"  # Orbax's item with the held-out loss, read of all checkpoints at the start


def saved_steps(directory: AnyPath) -> list[int]:
    """The steps of the complete checkpoints in `directory`, ascending; they may be damaged."""
    if not directory.exists():
        return []
    return sorted(
        int(path.name)
        for path in directory.iterdir()
        # A bucket has no renaming: a checkpoint there has its name while it is written.
        if path.name.isdigit() and (isinstance(path, Path) or (path / COMMITTED).exists())
    )


def newest_whole(directory: AnyPath) -> tuple[int, dict[int, str]]:
    """The newest whole checkpoint, and the damage of each one after it, by step.

    Says so where the checkpoint has no digests to compare with.

    Raises:
      UserError: there is no checkpoint, or none is whole.
    """
    steps = saved_steps(directory)
    if not steps:
        raise UserError(f"{directory} holds no checkpoint: train the run first")
    found: dict[int, str] = {}
    for step in reversed(steps):
        what = digests.damage(directory / str(step))
        if what is None:
            if not digests.has_digests(directory / str(step)):
                console.say(
                    f"Note: the checkpoint {directory / str(step)} has no {digests.FILE}, as an "
                    "earlier version of bert_jax wrote it: its content cannot be checked"
                )
            return step, found
        found[step] = what
    listed = "; ".join(f"{step}: {damage}" for step, damage in found.items())
    raise UserError(
        f"no checkpoint in {directory} is whole ({listed}): bring one back from a copy, or begin "
        "again with another --workdir"
    )


def set_aside_damaged(directory: AnyPath) -> None:
    """Rename checkpoints that training would stumble over to `<step>.damaged`, and say so.

    These are the damaged ones after the newest whole one, and earlier ones whose metrics are
    damaged, which Orbax reads as it starts. Nothing is deleted, save what an earlier call set
    aside of the same step.

    Raises:
      UserError: there are checkpoints, and none of them is whole.
    """
    if not saved_steps(directory):
        return
    whole, damaged = newest_whole(directory)
    for step, damage in damaged.items():
        console.say(
            f"Note: the checkpoint {directory / str(step)} is damaged: {damage}. The run goes on "
            f"from step {whole}; the damaged one is now {set_aside(directory / str(step)).name}"
        )
    for step in saved_steps(directory):
        if step < whole and (what := digests.damage(directory / str(step), METRICS)):
            console.say(
                f"Note: the checkpoint {directory / str(step)} is damaged: {what}. It is now "
                f"{set_aside(directory / str(step)).name}"
            )


def set_aside_after(directory: AnyPath, step: int) -> None:
    """Rename the checkpoints after `step` to `<step>.later`, and say so."""
    for later in saved_steps(directory):
        if later > step:
            name = set_aside(directory / str(later), LATER).name
            console.say(f"Note: the checkpoint of step {later} is now {directory / name}")


def choose(directory: AnyPath, step: int | None) -> int:
    """The step to load: `step`, or that of the newest whole checkpoint.

    Says which damaged checkpoints after it are left out.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    if step is None:
        whole, damaged = newest_whole(directory)
        for other, damage in damaged.items():
            console.say(
                f"Note: the checkpoint {directory / str(other)} is damaged: {damage}. That of step "
                f"{whole} is used"
            )
        return whole
    steps = saved_steps(directory)
    if not steps:
        raise UserError(f"{directory} holds no checkpoint: train the run first")
    if step not in steps:
        raise UserError(f"--step={step}: {directory} holds the steps {', '.join(map(str, steps))}")
    if what := digests.damage(directory / str(step)):
        raise UserError(
            f"--step={step}: the checkpoint {directory / str(step)} is damaged: {what}; choose "
            f"another step of {', '.join(map(str, steps))}, or none for the newest whole one"
        )
    return step


def set_aside(path: AnyPath, ending: str = DAMAGED) -> AnyPath:
    """Rename a checkpoint to `<step><ending>`, in place of what has that name already."""
    target = path.with_name(path.name + ending)
    remove_tree(target)
    return path.rename(target)
