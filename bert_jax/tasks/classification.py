"""Classification of a text or of a pair of texts, one label each (BERT, section 4.1)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics
from sklearn.utils.class_weight import compute_class_weight

from bert_jax.common.errors import UserError
from bert_jax.interop.task_heads import TaskHead, label_values
from bert_jax.model import Batch, Params, Totals
from bert_jax.tasks.base import Prediction, TaskSettings
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import TaskModel
from bert_jax.tasks.labels import label_text, ordered, unknown
from bert_jax.tasks.losses import smoothed_cross_entropy
from bert_jax.tasks.rows import Rows
from bert_jax.tasks.text import TextTask, mean_of_units


class Classification(TextTask):
    """Cross-entropy over the labels of the training examples."""

    metrics = ("accuracy", "macro_f1", "micro_f1", "matthews")
    options = ("stride", "label_smoothing", "class_weights")

    def __init__(self, settings: TaskSettings):
        super().__init__(settings)
        self.class_weights = np.ones(0, np.float32)

    def learn(self, records: Sequence[Record]) -> None:
        texts = [self.gold(record) for record in records]
        self.labels = ordered(set(texts))
        if len(self.labels) < 2:
            raise UserError(
                f"config.data.label={self.settings.data.label!r} has one class only "
                f"({self.labels[0]!r}) in {self.settings.data.train}: there is nothing to learn"
            )
        if self.settings.class_weights == "balanced":
            found = compute_class_weight("balanced", classes=np.array(self.labels), y=texts)
            self.class_weights = found.astype(np.float32)

    def gold(self, record: Record) -> str:
        return label_text(record.value(self.settings.data.label, "label"), record)

    def label_of(self, record: Record) -> int:
        text = self.gold(record)
        if text not in self.labels:
            raise unknown(text, self.labels, record)
        return self.labels.index(text)

    def _weights(self, batch: Batch) -> Float[Array, "B"]:
        if not len(self.class_weights):
            return batch["weight"]
        return batch["weight"] * jnp.asarray(self.class_weights)[batch["labels"]]

    def counts(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {self.name: self._weights(batch).sum()}

    def totals(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        logits = self.logits(model, batch, key)
        weights = self._weights(batch)
        smoothing = self.settings.label_smoothing
        return {self.name: smoothed_cross_entropy(logits, batch["labels"], weights, smoothing)}

    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        logits = mean_of_units(outputs["logits"], rows, len(records))
        return [self._prediction(row) for row in softmax(logits, axis=1)]

    def _prediction(self, probabilities: np.ndarray) -> Prediction:
        by_label = dict(zip(self.labels, map(float, probabilities), strict=True))
        return {"label": self.labels[int(probabilities.argmax())], "probabilities": by_label}

    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        counts = Counter(self.gold(record) for record in training)
        shares = np.array([counts[label] / len(training) for label in self.labels])
        return [self._prediction(shares)] * len(records)

    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        gold, predicted = self.confusion(predictions, records)
        return {
            "accuracy": float(sklearn_metrics.accuracy_score(gold, predicted)),
            "macro_f1": float(
                sklearn_metrics.f1_score(gold, predicted, average="macro", zero_division=0)
            ),
            "micro_f1": float(
                sklearn_metrics.f1_score(gold, predicted, average="micro", zero_division=0)
            ),
            "matthews": float(sklearn_metrics.matthews_corrcoef(gold, predicted)),
        }

    def confusion(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> tuple[list[str], list[str]]:
        return [self.gold(record) for record in records], [p["label"] for p in predictions]

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None]:
        values = label_values(self.labels, "single_label_classification")
        return TaskHead("ForSequenceClassification", values), head

    def state(self) -> dict[str, Any]:
        return super().state() | {"class_weights": self.class_weights.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.class_weights = np.array(state["class_weights"], np.float32)
