"""Multi-label classification: any number of labels for a text, each a yes or no."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from sklearn import metrics as sklearn_metrics

from bert_jax.common.errors import UserError
from bert_jax.interop.task_heads import TaskHead, label_values
from bert_jax.model import Batch, Params, Totals
from bert_jax.tasks.base import Prediction, TaskSettings
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import TaskModel
from bert_jax.tasks.labels import ordered, unknown
from bert_jax.tasks.rows import Rows
from bert_jax.tasks.text import TextTask, mean_of_units


class MultiLabel(TextTask):
    """Binary cross-entropy for each label; a label is given above a threshold.

    The labels of an example are a list (jsonl, parquet) or a text with commas, and may be none. The
    threshold is the one that has the best micro F1 on the validation split.
    """

    metrics = ("micro_f1", "macro_f1", "exact_match")
    label_type = np.float32

    def __init__(self, settings: TaskSettings):
        super().__init__(settings)
        self.threshold = 0.5

    def learn(self, records: Sequence[Record]) -> None:
        self.labels = ordered({label for record in records for label in self.gold(record)})
        if not self.labels:
            raise UserError(
                f"config.data.label={self.settings.data.label!r} is empty in all examples of "
                f"{self.settings.data.train}: there is nothing to learn"
            )

    def gold(self, record: Record) -> list[str]:
        value = record.value(self.settings.data.label, "label")
        parts = value if isinstance(value, list) else str("" if value is None else value).split(",")
        return [str(part).strip() for part in parts if str(part).strip()]

    def label_of(self, record: Record) -> np.ndarray:
        found = self.gold(record)
        if missing := [label for label in found if label not in self.labels]:
            raise unknown(missing[0], self.labels, record)
        return np.array([label in found for label in self.labels], np.float32)

    def totals(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        logits, labels = self.logits(model, batch, key), batch["labels"]
        losses = -labels * jax.nn.log_sigmoid(logits) - (1 - labels) * jax.nn.log_sigmoid(-logits)
        right = ((logits > 0) == (labels > 0)).mean(axis=1)
        weight = batch["weight"]
        metrics = {"accuracy": (right * weight).sum()}
        return {self.name: Totals((losses.mean(axis=1) * weight).sum(), metrics, weight.sum())}

    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        logits = mean_of_units(outputs["logits"], rows, len(records))
        return [self._prediction(row) for row in 1.0 / (1.0 + np.exp(-logits))]

    def _prediction(self, probabilities: np.ndarray) -> Prediction:
        by_label = dict(zip(self.labels, map(float, probabilities), strict=True))
        chosen = [label for label, share in by_label.items() if share > self.threshold]
        return {"label": chosen, "probabilities": by_label}

    def calibrate(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> None:
        gold = np.array([self.label_of(record) for record in records])
        shares = np.array([list(p["probabilities"].values()) for p in predictions])
        self.threshold = best_threshold(shares.ravel(), gold.ravel())

    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        shares = np.mean([self.label_of(record) for record in training], axis=0)
        common = [label for label, share in zip(self.labels, shares, strict=True) if share > 0.5]
        by_label = dict(zip(self.labels, map(float, shares), strict=True))
        return [{"label": common, "probabilities": by_label}] * len(records)

    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        gold = np.array([self.label_of(record) for record in records])
        chosen = np.array([[label in p["label"] for label in self.labels] for p in predictions])
        macro = sklearn_metrics.f1_score(gold, chosen, average="macro", zero_division=0)
        return {
            "micro_f1": _micro_f1(gold, chosen),
            "macro_f1": float(macro),
            "exact_match": float((gold == chosen).all(axis=1).mean()),
            "threshold": self.threshold,
        }

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None]:
        values = label_values(self.labels, "multi_label_classification")
        return TaskHead("ForSequenceClassification", values), head

    def state(self) -> dict[str, Any]:
        return super().state() | {"threshold": self.threshold}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.threshold = state["threshold"]


def best_threshold(shares: Float[np.ndarray, "N"], gold: Float[np.ndarray, "N"]) -> float:
    """The threshold above which labels are given with the best F1: halfway between two shares."""
    order = np.argsort(-shares, kind="stable")
    shares = np.append(shares[order], 0.0)
    given = np.arange(1, len(order) + 1)
    scores = 2 * np.cumsum(gold[order]) / (given + gold.sum())
    scores[shares[1:] == shares[:-1]] = -1.0  # equal shares are given together
    best = int(np.argmax(scores))
    halfway = (shares[best] + shares[best + 1]) / 2
    return float(halfway if halfway < shares[best] else shares[best + 1])


def _micro_f1(gold: np.ndarray, chosen: np.ndarray) -> float:
    return float(sklearn_metrics.f1_score(gold, chosen, average="micro", zero_division=0))
