"""Multiple choice: a context with several candidates, one of which is right (SWAG in BERT, 4.4)."""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.interop.task_heads import TaskHead
from bert_jax.model import Batch, Params, Totals
from bert_jax.tasks.base import PREDICT, Prediction, Task, TaskSettings
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import ROW, Head, TaskModel, flat_rows
from bert_jax.tasks.labels import label_text
from bert_jax.tasks.losses import smoothed_cross_entropy
from bert_jax.tasks.rows import RowBuilder, Rows, side_by_side
from bert_jax.tasks.text import mean_of_windows


class MultipleChoice(Task):
    """A logit for each row `[CLS] context [SEP] candidate [SEP]`; softmax over the candidates.

    With `stride` above 0, a context that is too long becomes windows, each beside all candidates;
    the logits of the windows are averaged.
    """

    metrics = ("accuracy",)
    options = ("stride", "label_smoothing")

    def __init__(self, settings: TaskSettings):
        super().__init__(settings)
        self.count = 0  # candidates of an example

    def learn(self, records: Sequence[Record]) -> None:
        self.count = len(self.choices(records[0]))

    def choices(self, record: Record) -> list[str]:
        """The candidates: a list in one column, or the texts of several columns."""
        names = self.settings.data.choices.split(",")
        if len(names) > 1:
            return [record.text(name.strip(), "choices") for name in names]
        value = record.value(names[0], "choices")
        if not isinstance(value, list) or len(value) < 2:
            raise UserError(f"{record.where}: {names[0]!r} is {value!r}, no list of candidates")
        return [str(text) for text in value]

    def gold(self, record: Record) -> int:
        """The number of the right candidate, from 0 on; the data may give its text instead."""
        choices = self.choices(record)
        text = label_text(record.value(self.settings.data.label, "label"), record)
        if text.isdigit() and int(text) < len(choices):
            return int(text)
        if text in choices:
            return choices.index(text)
        raise UserError(
            f"{record.where}: the label {text!r} is none of the {len(choices)} candidates: give "
            "the number of the right one, from 0 on"
        )

    def features(
        self, records: Sequence[Record], tokenizer: Tokenizer, purpose: str = PREDICT
    ) -> Rows:
        contexts = tokenizer.encode(
            [record.text(self.settings.data.text, "text") for record in records]
        )
        builder = RowBuilder(tokenizer.vocabulary, self.settings.max_length, self.count)
        for index, record in enumerate(records):
            texts = self.choices(record)
            if len(texts) != self.count:
                raise UserError(
                    f"{record.where} has {len(texts)} candidates, and the first example "
                    f"{self.count}: give all examples as many"
                )
            candidates = [
                builder.windows(index, contexts[index], candidate, self.settings.stride)
                for candidate in tokenizer.encode(texts)
            ]
            label = {"labels": self.gold(record)} if purpose != PREDICT else {}
            for pairs, is_new in side_by_side(candidates):
                for pair in pairs:
                    builder.add(index, *pair)
                builder.label(is_new=is_new, **label)
        return builder.build({"labels": np.int32, "is_new": np.int32})

    def head(self) -> Any:
        return functools.partial(Head, kind=ROW, outputs=1, rate=self.settings.head_dropout)

    def _logits(
        self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None
    ) -> Float[Array, "B C"]:
        flat = flat_rows(batch)
        logits = model.heads[self.name](model.hidden(flat, key), flat, key)
        return logits.reshape(batch["input_ids"].shape[:2])

    def totals(self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        logits = self._logits(model, batch, key)
        smoothing = self.settings.label_smoothing
        found = smoothed_cross_entropy(logits, batch["labels"], batch["weight"], smoothing)
        return {self.name: found}

    def outputs(self, model: TaskModel, batch: Batch) -> dict[str, Array]:
        return {"choice_logits": self._logits(model, batch, None)}

    def predictions(
        self, outputs: dict[str, np.ndarray], rows: Rows, records: Sequence[Record]
    ) -> list[Prediction]:
        logits = mean_of_windows(outputs["choice_logits"], rows, len(records))
        return [
            {"label": int(row.argmax()), "probabilities": row.tolist()}
            for row in softmax(logits, axis=1)
        ]

    def constant(self, training: Sequence[Record], records: Sequence[Record]) -> list[Prediction]:
        common = Counter(self.gold(record) for record in training).most_common(1)[0][0]
        shares = [float(index == common) for index in range(self.count)]
        return [{"label": common, "probabilities": shares}] * len(records)

    def score(
        self, predictions: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, float]:
        gold = [self.gold(record) for record in records]
        predicted = [prediction["label"] for prediction in predictions]
        return {"accuracy": float(sklearn_metrics.accuracy_score(gold, predicted))}

    def exported(self, head: Params | None) -> tuple[TaskHead, Params | None]:
        return TaskHead("ForMultipleChoice", {}), head

    def text_of(self, record: Record) -> str:
        return f"{record.values[self.settings.data.text]} | {' / '.join(self.choices(record))}"

    def wrongness(self, prediction: Prediction, record: Record) -> float:
        label = prediction["label"]
        return 0.0 if label == self.gold(record) else prediction["probabilities"][label]

    def state(self) -> dict[str, Any]:
        return super().state() | {"count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.count = state["count"]
