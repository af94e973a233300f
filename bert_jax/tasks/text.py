"""What tasks about one text or a pair share: rows, windows of long documents, the head."""

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
from bert_jax.tasks.rows import RowBuilder, Rows, truncated_pair, windows


class TextTask(Task):
    """Logits for whole rows. Long single texts become overlapping windows with `stride` above 0."""

    label_type: type = np.int32

    def outputs_of_head(self) -> int:
        """Logits of a row."""
        return len(self.labels)

    def label_of(self, record: Record) -> Any:
        """The label of an example as the loss takes it.

        Raises:
          UserError: it is none that the task knows.
        """
        raise NotImplementedError

    def features(
        self, records: Sequence[Record], tokenizer: Tokenizer, purpose: str = PREDICT
    ) -> Rows:
        data, stride = self.settings.data, self.settings.stride
        first = tokenizer.encode([record.text(data.text, "text") for record in records])
        second: Sequence[np.ndarray | None] = [None] * len(records)
        if data.text_pair:
            texts = [record.text(data.text_pair, "text_pair") for record in records]
            second = tokenizer.encode(texts)
        builder = RowBuilder(tokenizer.vocabulary, self.settings.max_length)
        for index, record in enumerate(records):
            label = {"labels": self.label_of(record)} if purpose != PREDICT else {}
            ids, others = first[index], second[index]
            if others is None:
                room = self.settings.max_length - 2
                parts = windows(len(ids), room, stride) if stride else [slice(0, room)]
                for part in parts:
                    builder.add(index, ids[part])
                    builder.label(**label)
            else:
                builder.add(index, *truncated_pair(ids, others, self.settings.max_length - 3))
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
