"""Regression: a number for a text or a pair of texts."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy import stats

from bert_jax.common.errors import UserError
from bert_jax.interop.task_heads import TaskHead, label_values
from bert_jax.model import Batch, Params, Totals
from bert_jax.tasks.base import Prediction
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import TaskModel
from bert_jax.tasks.rows import Rows
from bert_jax.tasks.text import TextTask, mean_of_units


class Regression(TextTask):
    """Squared error of the standardized numbers."""

    metrics = ("spearman", "pearson", "negative_rmse")
    label_type = np.float32
    mean, deviation = 0.0, 1.0

    def learn(self, records: Sequence[Record]) -> None:
        values = [self.gold(record) for record in records]
        self.mean, self.deviation = float(np.mean(values)), float(np.std(values))
        if not self.deviation:
            raise UserError(
                f"config.data.label={self.settings.data.label!r} is {values[0]} in all examples of "
                f"{self.settings.data.train}: there is nothing to learn"
            )

    def outputs_of_head(self) -> int:
        return 1

    def gold(self, record: Record) -> float:
        return number(record, self.settings.data.label)

    def label_of(self, record: Record) -> float:
        return (self.gold(record) - self.mean) / self.deviation

    def totals(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        errors = jnp.square(self.logits(model, batch, key)[:, 0] - batch["labels"])
        weight = batch["weight"]
        return {self.name: Totals((errors * weight).sum(), {}, weight.sum())}

    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        logits = mean_of_units(outputs["logits"], rows, len(records))[:, 0]
        return [{"score": float(value)} for value in logits * self.deviation + self.mean]

    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        return [{"score": self.mean}] * len(records)

    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        gold = np.array([self.gold(record) for record in records])
        predicted = np.array([prediction["score"] for prediction in predictions])
        return correlations(gold, predicted) | {
            "negative_rmse": -float(np.sqrt(np.mean((gold - predicted) ** 2)))
        }

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None]:
        """The last map gives the numbers of the data, not the standardized ones."""
        assert head is not None
        last = head["classifier"]
        scaled = {
            "kernel": last["kernel"] * self.deviation,
            "bias": last["bias"] * self.deviation + self.mean,
        }
        values = label_values(["score"], "regression")
        return TaskHead("ForSequenceClassification", values), {**head, "classifier": scaled}

    def exported_logits(self, logits: np.ndarray) -> np.ndarray:
        return logits * self.deviation + self.mean

    def state(self) -> dict[str, Any]:
        return super().state() | {"mean": self.mean, "deviation": self.deviation}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.mean, self.deviation = state["mean"], state["deviation"]


def number(record: Record, column: str) -> float:
    """The number in a column.

    Raises:
      UserError: there is none.
    """
    value = record.value(column, "label")
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{record.where}: {column!r} is {value!r}, no number") from error
    if not np.isfinite(found):
        raise UserError(f"{record.where}: {column!r} is {value!r}, not a finite number")
    return found


def correlations(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Spearman's and Pearson's; 0 where all predictions are equal."""
    if np.ptp(predicted) == 0 or np.ptp(gold) == 0:
        return {"spearman": 0.0, "pearson": 0.0}
    return {
        "spearman": float(stats.spearmanr(gold, predicted).statistic),
        "pearson": float(stats.pearsonr(gold, predicted).statistic),
    }
