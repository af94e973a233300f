"""List a run's checkpoints and check them: `python -m bert_jax.checkpoints --workdir=DIR`.

Reads every file of every checkpoint and compares it with the digests that were saved. Exit status
1: the newest checkpoint is damaged.
"""

from collections.abc import Iterator
from pathlib import Path

from absl import flags

from bert_jax.common import command_line
from bert_jax.common.bucket import AnyPath, files_below, home, size_of
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings, parse
from bert_jax.run import metrics, workdir
from bert_jax.training import digests, saved

FLAGS = flags.FLAGS
ROW = "{:>9}  {:>5}  {:>13}  {:>9}  {}"


def define_flags() -> None:
    """Define the command's flags."""
    command_line.define_workdir("The run whose checkpoints are listed", required=True)


def main() -> None:
    directory = command_line.workdir()
    settings = parse(workdir.load_config(directory))
    place = home(directory) / workdir.CHECKPOINTS
    steps = saved.saved_steps(place)
    print(ROW.format("step", "phase", "held-out loss", "size", "state"))
    newest = None
    for row, damage in rows(directory, settings, steps):
        print(row, flush=True)
        newest = damage
    for path in sorted(place.glob(f"*{saved.DAMAGED}")):
        print(f"Set aside as damaged: {path} ({megabytes(path)}); delete it when it is of no use")
    if newest:
        raise UserError(
            f"the newest checkpoint {place / str(steps[-1])} is damaged: {newest}; training and "
            "the other commands use the newest whole one"
        )
    if not steps:
        raise UserError(f"{place} holds no checkpoint: train the run first")


def rows(
    directory: Path, settings: RunSettings, steps: list[int]
) -> Iterator[tuple[str, str | None]]:
    """Each checkpoint's line of the table, ascending, and what is damaged in it."""
    losses = {
        record["step"]: record["loss"]
        for record in metrics.read(directory)
        if record["split"] == "heldout" and "loss" in record
    }
    for step in steps:
        path = home(directory) / workdir.CHECKPOINTS / str(step)
        damage = digests.damage(path)
        loss = f"{losses[step]:.4f}" if step in losses else "-"
        state = "whole" if digests.has_digests(path) else "no digests to compare with"
        if damage:
            state = f"damaged: {damage}"
        phase = settings.stream.phase_before(step).index
        yield ROW.format(step, phase, loss, megabytes(path), state), damage


def megabytes(directory: AnyPath) -> str:
    """The size of all files below a directory."""
    size = sum(size_of(path) for path in files_below(directory))
    return f"{size / 1e6:,.1f} MB"


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
