"""What tasks about one text or a pair share: rows, windows of long documents, the head."""

import abc
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.model import Batch
from bert_jax.tasks.base import PREDICT, Task
from bert_jax.tasks.data import Record
from bert_jax.tasks.heads import ROW, Head, TaskModel
from bert_jax.tasks.rows import RowBuilder, Rows


class TextTask(Task):
    """Logits for whole rows.

    With `stride` above 0, long texts become overlapping windows, and of a pair the longer text
    does; the logits of the windows are averaged.
    """

    options: tuple[str, ...] = ("stride",)

    label_type: type = np.int32

    def outputs_of_head(self) -> int:
        """Logits of a row."""
        return len(self.labels)

    @abc.abstractmethod
    def label_of(self, record: Record) -> Any:
        """The label of an example as the loss takes it.

        Raises:
          UserError: it is none that the task knows.
        """

    def features(
        self, records: Sequence[Record], tokenizer: Tokenizer, purpose: str = PREDICT
    ) -> Rows:
        data = self.settings.data
        first = tokenizer.encode([record.text(data.text, "text") for record in records])
        second: Sequence[np.ndarray | None] = [None] * len(records)
        if data.text_pair:
            texts = [record.text(data.text_pair, "text_pair") for record in records]
            second = tokenizer.encode(texts)
        builder = RowBuilder(tokenizer.vocabulary, self.settings.max_length)
        for index, record in enumerate(records):
            label = {"labels": self.label_of(record)} if purpose != PREDICT else {}
            for row in builder.windows(index, first[index], second[index], self.settings.stride):
                builder.add(index, *row)
                builder.label(**label)
        return builder.build({"labels": self.label_type})

    def head(self) -> Any:
        return functools.partial(
            Head, kind=ROW, outputs=self.outputs_of_head(), rate=self.settings.head_dropout
        )

    def logits(
        self, model: TaskModel, batch: Batch, key: PRNGKeyArray | None
    ) -> Float[Array, "B outputs"]:
        return model.heads[self.name](model.hidden(batch, key), batch, key)

    def outputs(self, model: TaskModel, batch: Batch) -> dict[str, Array]:
        return {"logits": self.logits(model, batch, None)}


def mean_of_units(values: np.ndarray, rows: Rows, count: int) -> np.ndarray:
    """The mean over the windows of each example, [examples, ...]."""
    total = np.zeros((count, *values.shape[1:]))
    np.add.at(total, rows.example, values)
    return total / np.bincount(rows.example, minlength=count).reshape(-1, *[1] * (values.ndim - 1))


def mean_of_windows(
    values: Float[np.ndarray, "U G *_"], rows: Rows, count: int
) -> Float[np.ndarray, "examples G *_"]:
    """The mean over the windows of each text of an example; see `rows.side_by_side`."""
    is_new = rows.of_unit["is_new"].astype(np.float32)
    weights = is_new.reshape(*is_new.shape, *[1] * (values.ndim - 2))
    return mean_of_units(values * weights, rows, count) / mean_of_units(weights, rows, count)
