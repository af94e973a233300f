"""The data of a fine-tuning: the records of each task's splits and their tokenized rows."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.stream import randomness
from bert_jax.tasks import cache
from bert_jax.tasks.base import EVALUATE, TRAIN, Task
from bert_jax.tasks.batches import RowBatches
from bert_jax.tasks.data import Record
from bert_jax.tasks.rows import Rows


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A task with its data.

    Attributes:
      learned: the state of the task before any training, which moves its thresholds.
      records, rows: by split: `train`, `validation` and, where there is one, `test`.
      files: of the rows, by split.
      fingerprint: of everything that the rows depend on.
    """

    task: Task
    learned: dict[str, Any]
    tokenizer: Tokenizer
    records: dict[str, list[Record]]
    rows: dict[str, Rows]
    files: dict[str, Path]
    fingerprint: str

    def keep(self) -> None:
        """Write the rows that are not in their files yet."""
        for split, file in self.files.items():
            cache.write(file, self.rows[split])

    def batches(self, split: str, batch_size: int, seed: int, shapes: int) -> RowBatches:
        """The batches of a split."""
        vocabulary = self.tokenizer.vocabulary
        return RowBatches(self.rows[split], vocabulary, batch_size, seed, shapes)


def prepare(
    task: Task, records: dict[str, list[Record]], tokenizer: Tokenizer, directory: Path
) -> Prepared:
    """Find the labels in the training examples, and tokenize all splits that were not yet.

    Writes nothing: see `Prepared.keep`.

    Raises:
      UserError: an example is not usable; the message says where it is.
    """
    task.learn(records["train"])
    data = task.settings.data
    key = {
        "version": 3,
        "task": type(task).__name__,
        "settings": dataclasses.asdict(task.settings),
        "state": task.state(),
        "tokenizer": tokenizer.fingerprint,
        "files": [cache.file_digest(path) for path in (data.train, data.validation, data.test)],
    }

    files = {split: cache.path_of(directory, key | {"split": split}) for split in records}
    rows = {}
    for split, found in records.items():
        if files[split].is_file():
            rows[split] = cache.read(files[split])
        else:
            purpose = TRAIN if split == "train" else EVALUATE
            rows[split] = task.features(found, tokenizer, purpose)
    fingerprint = str(randomness.key(0, str(sorted(key.items()))).tolist())
    return Prepared(task, task.state(), tokenizer, records, rows, files, fingerprint)


class TaskOrder:
    """Which task each step trains, and which of its batches: a function of the seed alone."""

    def __init__(self, examples: list[int], exponent: float, steps: int, seed: int):
        """Args:
        examples: of each task.
        exponent: tasks are drawn in proportion to examples ** exponent.
        steps: of the run.
        seed: of the draws.
        """
        shares = np.array(examples, float) ** exponent
        bounds = np.cumsum(shares / shares.sum())
        random = randomness.bits(seed, "finetune/tasks", 0, steps, 1)[:, 0] / 2.0**32
        self.task = np.minimum(np.searchsorted(bounds, random, side="right"), len(examples) - 1)
        is_task = self.task[:, None] == np.arange(len(examples))
        before = np.cumsum(is_task, axis=0) - is_task
        self.batch = before[np.arange(steps), self.task]
