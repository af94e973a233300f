"""A fine-tuning while it runs: what its seeds share, the history of one, what it logs."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bert_jax.common import console
from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import FinetuneSettings
from bert_jax.model import ModelConfig, Params
from bert_jax.run import metrics
from bert_jax.run.metrics import Writers, summarize
from bert_jax.tasks.base import Prediction, Task
from bert_jax.tasks.evaluation import Forward, predict
from bert_jax.tasks.prepared import Prepared
from bert_jax.training.parameter_rules import name_of
from bert_jax.training.step import StepFigures

Scores = Mapping[str, Mapping[str, float]]  # by task, then by metric
SELECTION = "selection"  # in records: what the best checkpoint is chosen by


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """What the seeds of a fine-tuning share."""

    settings: FinetuneSettings
    directory: Path
    mesh: Mesh
    model: ModelConfig
    tasks: Sequence[Prepared]
    forwards: Sequence[Forward]

    @property
    def reported(self) -> str:
        """The split of the results: `test` if all tasks have one."""
        return "test" if all("test" in task.records for task in self.tasks) else "validation"

    @property
    def identity(self) -> dict[str, str]:
        """Of the data of all tasks, kept with every checkpoint."""
        return {task.task.name: task.fingerprint for task in self.tasks}

    @property
    def total_steps(self) -> int:
        """The updates of a seed: config.total_steps, or those of config.epochs."""
        settings = self.settings
        if settings.total_steps:
            return settings.total_steps
        batches = sum(-(-len(task.rows["train"]) // settings.batch_size) for task in self.tasks)
        return max(round(settings.epochs * batches), 1)

    def say_data(self) -> None:
        """Print the numbers of examples and the labels."""
        for task in self.tasks:
            counts = ", ".join(f"{len(found):,} {split}" for split, found in task.records.items())
            labels = task.task.labels
            shown = f"; labels: {', '.join(labels[:12])}" if labels else ""
            more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
            console.say(f"{task.task.name}: {counts} examples{shown}{more}")
            for split, rows in task.rows.items():
                if rows.cut:
                    count = len(task.records[split])
                    console.say(f"Note: {task.task.cut_note(rows.cut, count, split)}")

    def baseline(self) -> dict[str, dict[str, float]]:
        """The scores of predictions that do not look at the examples."""
        found = {}
        for prepared in self.tasks:
            task, records = prepared.task, prepared.records[self.reported]
            constant = task.constant(prepared.records["train"], records)
            found[task.name] = task.score(constant, records)
            console.say(
                f"{task.name}: {task.metric} {found[task.name][task.metric]:.4f} on {self.reported}"
                " without looking at the examples"
            )
        return found

    def predict(self, index: int, params: Params, split: str) -> list[Prediction]:
        """The predictions of a task for a split."""
        task = self.tasks[index]
        batches = task.batches(split, self.settings.batch_size, 0, self.settings.shapes)
        rows, records = task.rows[split], task.records[split]
        return predict(task.task, self.forwards[index], params, batches, rows, records, self.mesh)

    def evaluate(self, params: Params, split: str) -> dict[str, dict[str, float]]:
        """The scores of all tasks on a split."""
        return {
            prepared.task.name: prepared.task.score(
                self.predict(index, params, split), prepared.records[split]
            )
            for index, prepared in enumerate(self.tasks)
        }

    def selection(self, scores: Scores) -> float:
        """What the best checkpoint is chosen by: the tasks' metrics, averaged."""
        return float(np.mean([scores[p.task.name][p.task.metric] for p in self.tasks]))

    def expect_same_data(self, saved: Mapping[str, str], step: int) -> None:
        """Raises a UserError if the data is not that of the checkpoint."""
        if dict(saved) != self.identity:
            raise UserError(
                f"--workdir={self.directory}: the data or the tokenizer changed since step {step}: "
                "bring them back, or use another --workdir"
            )


class History:
    """The evaluations of a seed on the validation split: the best one, and when to stop."""

    def __init__(self, directory: Path, patience: int):
        """Read those that an interrupted run has logged."""
        self._directory = directory
        self._patience = patience
        self._values: list[tuple[int, float]] = [
            (record["step"], record[SELECTION])
            for record in metrics.read(directory)
            if record["split"] == "validation" and SELECTION in record
        ]

    def add(self, step: int, value: float) -> None:
        """Take a value that has been logged."""
        self._values.append((step, value))

    @property
    def best(self) -> float:
        """The highest value."""
        return max(value for _, value in self._values)

    @property
    def best_step(self) -> int:
        """The first step with the highest value."""
        return next(step for step, value in self._values if value == self.best)

    @property
    def is_over(self) -> bool:
        """Whether the last `patience` evaluations were no better than one before them."""
        if not self._patience or not self._values:
            return False
        return sum(step > self.best_step for step, _ in self._values) >= self._patience

    def untrained(self) -> dict[str, float]:
        """The scores before training, by metric; of several tasks by `task/metric`."""
        first = next(r for r in metrics.read(self._directory) if r["step"] == 0)
        others = ("step", "split", *metrics.TIME_BASED)
        return {name: value for name, value in first.items() if name not in others}


class SeedWriter:
    """Logs a seed; figures of a step are written after the next one is dispatched."""

    def __init__(self, run: Finetuning, directory: Path, first_step: int):
        self._run = run
        self._writers = Writers(directory, run.total_steps, first_step)
        self._pending: tuple[int, Task, StepFigures] | None = None

    def train(self, step: int, task: Task, figures: StepFigures) -> None:
        """Take the figures of a step just dispatched."""
        self.flush()
        if step % self._run.settings.log_every == 0:
            self._pending = (step, task, figures)

    def flush(self) -> None:
        """Write what is pending."""
        if self._pending is None:
            return
        (step, task, figures), self._pending = self._pending, None
        found = jax.device_get(figures)
        scalars = {name: float(value) for name, value in found.scalars.items()}
        self._writers.write(step, "train", summarize(found.totals, task.loss_weights) | scalars)

    def scores(self, step: int, split: str, scores: Scores, selection: float | None = None) -> None:
        """Write an evaluation, and print the metrics that checkpoints are chosen by."""
        is_one = len(scores) == 1
        figures = {
            name if is_one else f"{task}/{name}": value
            for task, found in scores.items()
            for name, value in found.items()
        }
        if selection is not None:
            figures[SELECTION] = selection
        self._writers.write(step, split, figures)
        main = ", ".join(
            f"{p.task.name} {p.task.metric} {scores[p.task.name][p.task.metric]:.4f}"
            for p in self._run.tasks
        )
        console.say(f"step {step}: {split}: {main}{' before training' if step == 0 else ''}")

    def close(self) -> None:
        """Write what is pending and close the files."""
        self.flush()
        self._writers.close()


def check_freeze(regex: str, params: Any) -> None:
    """Check that config.freeze matches a parameter.

    Raises:
      UserError: it matches none.
    """
    names = [name_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    if regex and not any(re.match(regex, name) for name in names):
        raise UserError(
            f"config.freeze={regex!r} matches the beginning of no parameter's name: names are like "
            f"{names[0]}, {names[-1]}"
        )
