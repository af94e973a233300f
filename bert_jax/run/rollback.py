"""Going back after a spike of the loss, and leaving out the batches that led to it.

`left_out.json` in the workdir lists the spikes and the batches that were left out for each. Which
ones they are depends on the losses alone, so it is a part of the run like its config: whichever
checkpoint the run goes back to, and however often it is killed, it makes the same steps.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from bert_jax.common import console
from bert_jax.common.atomic import write_json
from bert_jax.common.bucket import home, remove_tree
from bert_jax.common.errors import UserError
from bert_jax.run.progress import Reporter
from bert_jax.stream.left_out import LeftOut, leave_out
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.saved import saved_steps, set_aside
from bert_jax.training.spikes import SpikeError, SpikeSettings

FILE = "left_out.json"


def read(directory: Path) -> list[dict[str, Any]]:
    """The spikes so far, in the order in which they were found: `step`, `first`, `loss`, ...

    Raises:
      UserError: the file is damaged.
    """
    try:
        return json.loads((directory / FILE).read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise UserError(
            f"{directory / FILE} is damaged ({error}): restore it from a copy; it says which "
            "batches are left out"
        ) from error


def batches(spikes: list[dict[str, Any]]) -> tuple[LeftOut, ...]:
    """What is left out after all these spikes."""
    return tuple(LeftOut(*part) for part in spikes[-1]["left_out"]) if spikes else ()


def write(directory: Path, spikes: list[dict[str, Any]]) -> None:
    """Record the spikes so far, as `read` returns them."""
    if spikes:
        write_json(directory / FILE, spikes)


@contextlib.contextmanager
def recorded(reporter: Reporter, checkpoints: Checkpoints) -> Iterator[None]:
    """Write the spike that ends this block, and close the run's files; `train` opens them again."""
    try:
        yield
    except SpikeError as spike:
        reporter.event(spike.step, "rollback", loss=spike.loss, median=spike.median)
        reporter.close()
        checkpoints.close()
        raise


def go_back(
    checkpoints: Path, settings: SpikeSettings, spike: SpikeError, begin: int, checkpoint_every: int
) -> None:
    """Leave out the batches of the steps up to the spike; the run then goes on before them.

    The checkpoints after that are removed first: a process that is killed in between finds the
    spike again.

    Args:
      checkpoints: directory of all checkpoints of the run, which is in the workdir.
      settings: of the run.
      spike: that was found.
      begin: the step of the run's first state: 0, or that at which it branches off.
      checkpoint_every: of the run.

    Raises:
      UserError: `settings.rollbacks` spikes were left out before; or a run that saved checkpoints
        before the first batch to leave out has none of them any more.
    """
    workdir = checkpoints.parent
    saved = home(workdir) / checkpoints.name  # in a bucket, if the workdir is a copy of one
    spikes = read(workdir)
    first = max(begin, spike.phase.start, spike.step - settings.left_out)
    if len(spikes) >= settings.rollbacks:
        earlier = ", ".join(f"{each['loss']:.3g} at step {each['step']}" for each in spikes)
        raise UserError(
            f"{spike}, and config.spikes.rollbacks={settings.rollbacks} is reached"
            f"{f' (before: {earlier})' if spikes else ''}. Look at the batches with "
            f"inspect_batches --step={spike.step - 1}; lower config.learning_rate, set "
            "config.optimizer.clip_norm, compute in float32; or allow more rollbacks, or train on "
            "with config.spikes.threshold=0. The checkpoints are those before the spike"
        )
    steps = saved_steps(saved)
    if steps and steps[0] > max(first, begin + checkpoint_every):
        raise UserError(
            f"{spike}, and no checkpoint is left of those before step {first}, the first of "
            f"config.spikes.left_out={settings.left_out} that are to be left out (saved: "
            f"{', '.join(map(str, steps))}): all of the run would be lost. Set "
            f"config.spikes.left_out to {spike.step - steps[0]} or fewer and a larger "
            "config.keep_checkpoints, and start again; or train on with config.spikes.threshold=0"
        )
    console.say(
        f"Warning: {spike}. Going back to before step {first}; the batches of the steps {first} to "
        f"{spike.step - 1} are left out from now on ({len(spikes) + 1} of at most "
        f"{settings.rollbacks} times)."
    )
    if jax.process_index() != 0:
        return
    for step in steps:
        if step > first:
            remove_tree(set_aside(saved / str(step), ".spike"))
    left_out = leave_out(batches(spikes), spike.phase, first, spike.step)
    found = {
        "step": spike.step,
        "first": first,
        "loss": spike.loss,
        "median": spike.median,
        "deviations": round(spike.deviations, 1),
        "left_out": [list(part) for part in left_out],
    }
    write(workdir, [*spikes, found])
