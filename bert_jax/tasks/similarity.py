"""Similarity of two texts as the cosine of their vectors, so that texts can be embedded alone.

`config.similarity` says what it learns from:

* regression: pairs with a score; the squared error of the cosine (Sentence-BERT,
  https://arxiv.org/abs/1908.10084)
* contrastive: pairs that are similar, the other pairs of a batch as negatives, and hard negatives
  where the data has them (supervised SimCSE, https://arxiv.org/abs/2104.08821)
* unsupervised: texts alone; a text is its own pair, with another dropout (unsupervised SimCSE)

Validation and test are always pairs with scores.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.interop.task_heads import TaskHead
from bert_jax.model import Batch, ModelConfig, Params, Totals
from bert_jax.tasks.base import EVALUATE, PREDICT, TRAIN, Prediction, Task, TaskSettings
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import TaskModel, flat_rows, pooled
from bert_jax.tasks.losses import contrastive
from bert_jax.tasks.regression import correlations, number
from bert_jax.tasks.rows import RowBuilder, Rows, row_windows, side_by_side
from bert_jax.tasks.text import mean_of_windows

MODES = ("regression", "contrastive", "unsupervised")


class Similarity(Task):
    """Vectors are the mean of the tokens, or [CLS] (`config.pooling`), without a head.

    With `stride` above 0, the vector of a long text is the mean of its windows'. Regression learns
    from all of them; the contrastive losses from the first one, since the windows of one text
    would be negatives of each other.
    """

    metrics = ("spearman", "pearson")
    options = ("stride", "similarity", "pooling", "temperature")

    def __init__(self, settings: TaskSettings):
        super().__init__(settings)
        self.mode = settings.similarity
        if self.mode not in MODES:
            raise UserError(f"config.similarity is {self.mode!r}: choose {' or '.join(MODES)}")
        if not settings.data.text_pair:
            raise UserError("config.data.text_pair is empty: name the column of the second text")
        self.low, self.high = 0.0, 1.0  # the range of the data's scores, as far as it is known
        self.in_batch = self.mode != "regression"

    def learn(self, records: Sequence[Record]) -> None:
        if self.mode != "regression":
            return
        scores = [self.gold(record) for record in records]
        self.low, self.high = min(scores), max(scores)
        if self.low == self.high:
            raise UserError(f"{self.settings.data.train}: all scores are {self.low}")

    def check_model(self, model: ModelConfig) -> None:
        if self.mode == "unsupervised" and not model.dropout + model.attention_dropout:
            raise UserError(
                "config.similarity is 'unsupervised' and the encoder has no dropout, so that a "
                "text and its pair are the same: set config.model.dropout to 0.1"
            )

    def gold(self, record: Record) -> float:
        return number(record, self.settings.data.label)

    def features(
        self, records: Sequence[Record], tokenizer: Tokenizer, purpose: str = PREDICT
    ) -> Rows:
        data = self.settings.data
        columns = [(data.text, "text"), (data.text_pair, "text_pair")]
        if purpose == TRAIN and self.mode == "unsupervised":
            columns = [columns[0]] * 2
        elif purpose == TRAIN and self.mode == "contrastive" and data.text_negative:
            columns.append((data.text_negative, "text_negative"))
        encoded = {
            name: tokenizer.encode([record.text(name, field) for record in records])
            for name, field in dict(columns).items()
        }
        is_scored = purpose == EVALUATE or (purpose == TRAIN and self.mode == "regression")
        length = self.settings.max_length
        stride = 0 if purpose == TRAIN and self.in_batch else self.settings.stride
        builder = RowBuilder(tokenizer.vocabulary, length, len(columns))
        for index, record in enumerate(records):
            label: dict[str, Any] = {}
            if is_scored:
                label["labels"] = (self.gold(record) - self.low) / (self.high - self.low)
            texts = [row_windows(encoded[name][index], None, length, stride) for name, _ in columns]
            for parts, is_new in side_by_side(texts):
                for part in parts:
                    builder.add(index, *part)
                builder.label(is_new=is_new, **label)
        return builder.build({"labels": np.float32, "is_new": np.int32})

    def head(self) -> None:
        return None

    def _vectors(
        self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None
    ) -> Float[Array, "B G D"]:
        """Unit vectors of the texts of each unit."""
        units, group, _ = batch["input_ids"].shape
        flat = flat_rows(batch)
        vectors = pooled(model.hidden(flat, key), flat, self.settings.pooling)
        norms = jnp.sqrt(jnp.maximum((vectors**2).sum(axis=-1, keepdims=True), 1e-12))
        return (vectors / norms).reshape(units, group, -1)

    def totals(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        vectors, weight = self._vectors(model, batch, key), batch["weight"]
        if self.mode == "regression":
            cosine = (vectors[:, 0] * vectors[:, 1]).sum(axis=-1)
            losses = jnp.square(cosine - batch["labels"])
            return {self.name: Totals((losses * weight).sum(), {}, weight.sum())}
        return {self.name: contrastive(vectors, weight, self.settings.temperature)}

    def outputs(self, model: TaskModel, batch: Batch) -> dict[str, Array]:
        return {"vectors": self._vectors(model, batch, None)}

    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        vectors = mean_of_windows(outputs["vectors"], rows, len(records))
        vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        return [{"score": float(value)} for value in (vectors[:, 0] * vectors[:, 1]).sum(axis=-1)]

    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        return [{"score": 0.0}] * len(records)

    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        gold = np.array([self.gold(record) for record in records])
        return correlations(gold, np.array([prediction["score"] for prediction in predictions]))

    def calibrate(self, predictions: Sequence[Prediction], records: Sequence[Record]) -> None:
        """Take the range of the scores from the validation split, where training knows none."""
        scores = [self.gold(record) for record in records]
        if self.mode != "regression" and min(scores) < max(scores):
            self.low, self.high = min(scores), max(scores)

    def wrongness(self, prediction: Prediction, record: Record) -> float:
        """Of scores on two scales: where the data's is taken as a share of its range."""
        share = (self.gold(record) - self.low) / (self.high - self.low)
        return abs(prediction["score"] - share)

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None]:
        return TaskHead("Model", {}, pooling=self.settings.pooling), None

    def state(self) -> dict[str, Any]:
        return super().state() | {"low": self.low, "high": self.high}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.low, self.high = state["low"], state["high"]
