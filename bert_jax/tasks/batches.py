"""The batch at a step of a fine-tuning: a function of (rows, seed, step) alone.

Every epoch shuffles the units, sorts chunks of them by length so that the rows of a batch are about
as long, and shuffles the batches. Rows are padded to one of a few lengths, each of which is
compiled once.
"""

import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream import randomness
from bert_jax.stream.permutation import permute
from bert_jax.tasks.rows import Rows, bucket_lengths

CHUNK = 50  # batches that are sorted by length together


class RowBatches:
    """The batches of some rows."""

    def __init__(
        self,
        rows: Rows,
        vocabulary: Vocabulary,
        batch_size: int,
        seed: int,
        shapes: int,
        longest: int = 0,
    ):
        """Args:
        rows: of a split.
        vocabulary: of their ids.
        batch_size: units of a batch.
        seed: of the order.
        shapes: the most lengths that batches are padded to.
        longest: the lengths are fixed shares of it; 0: those that suit the rows best.
        """
        self._rows = rows
        self._vocabulary = vocabulary
        self._batch_size = batch_size
        self._seed = seed
        self.buckets = (
            [-(-longest * (i + 1) // shapes) for i in range(shapes)]
            if longest
            else bucket_lengths(rows.lengths, shapes)
        )
        self._plan = functools.lru_cache(maxsize=2)(self._make_plan)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self._rows) // self._batch_size)

    def at(self, step: int) -> dict[str, np.ndarray]:
        """The batch of the update at `step`."""
        epoch, index = divmod(step, len(self))
        return self._batch(self._plan(epoch)[index])

    def in_order(self) -> Iterator[tuple[Int[np.ndarray, "N"], dict[str, np.ndarray]]]:
        """All units once, sorted by length: the units of each batch, and the batch."""
        order = np.argsort(self._rows.lengths, kind="stable")
        for start in range(0, len(order), self._batch_size):
            units = order[start : start + self._batch_size]
            yield units, self._batch(units)

    def _batch(self, units: Int[np.ndarray, "N"]) -> dict[str, np.ndarray]:
        longest = self._rows.lengths[units].max()
        length = next(bucket for bucket in self.buckets if bucket >= longest)
        return self._rows.batch(units, self._batch_size, length, self._vocabulary)

    def _make_plan(self, epoch: int) -> list[Int[np.ndarray, "N"]]:
        count, size = len(self._rows), self._batch_size
        order = _permuted(count, epoch, self._seed, "units")
        lengths = self._rows.lengths
        batches = []
        for start in range(0, count, CHUNK * size):
            chunk = order[start : start + CHUNK * size]
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches += [chunk[at : at + size] for at in range(0, len(chunk), size)]
        return [batches[index] for index in _permuted(len(batches), epoch, self._seed, "batches")]


def _permuted(count: int, epoch: int, seed: int, purpose: str) -> Int[np.ndarray, "N"]:
    position = np.arange(count, dtype=np.int64)
    key = randomness.key(seed, "finetune", purpose)
    return permute(position, np.full(count, epoch, np.int64), count, key)
