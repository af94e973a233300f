"""Batches built ahead of the step by tf.data: its threads, its prefetching, none of its state."""

import atexit
import dataclasses
import itertools
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from jaxtyping import Int64
from ml_collections import ConfigDict

from bert_jax.corpus.store import TokenStore
from bert_jax.stream.batches import EvaluationBatches, RowsOf, TrainBatches
from bert_jax.stream.phases import phases
from bert_jax.stream.rows import Batch

# The accelerators belong to JAX.
tf.config.set_visible_devices([], "GPU")

_AHEAD = 2  # groups of batches that wait for the step
_LARGEST_GROUP = 8  # batches that are handed over together
_GROUP_TOKENS = 2**18  # of a group, if a batch has not more


@dataclasses.dataclass(frozen=True)
class BatchStream:
    """The batches `build(index)` for each of `indices`, in order; can be iterated again.

    One thread builds ahead. More would not help: they would wait for each other's interpreter.

    Small batches travel in groups: handing one over from thread to thread takes half as long as
    building 256 rows of 128 tokens.

    Attributes:
      build: makes a batch.
      indices: of the batches.
      group: how many batches are built and handed over together.
    """

    build: Callable[[int], Batch]
    indices: range
    group: int = 1

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Batch]:
        # The arrays stay in Python: through TensorFlow go the indices alone, without a copy.
        built: dict[int, list[Batch]] = {}

        def build(index: np.int64) -> np.int64:
            first = int(index)
            indices = range(first, min(first + self.group, self.indices.stop))
            built[first] = [self.build(i) for i in indices]
            return index

        @tf.autograph.experimental.do_not_convert
        def element(index: tf.Tensor) -> tf.Tensor:
            return tf.numpy_function(build, [index], tf.int64)

        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        # Nothing is left to tune, and the end of the data would wait for the tuner to wake up.
        options.autotune.enabled = False
        indices = (
            tf.data.Dataset.range(self.indices.start, self.indices.stop, self.group)
            .map(element)
            .prefetch(_AHEAD)
            .with_options(options)
        )
        return (batch for index in _Stoppable(indices) for batch in built.pop(int(index)))


class _Stoppable(Iterator[np.int64]):
    """The elements of a dataset, until the process ends.

    A dataset that is still at work when Python shuts down would wait forever for an interpreter
    to build its next batch, so it is taken down before.
    """

    def __init__(self, dataset: tf.data.Dataset):
        self._elements: Iterator[np.int64] | None = dataset.as_numpy_iterator()
        _AT_WORK.add(self)

    def __next__(self) -> np.int64:
        if self._elements is None:
            raise StopIteration
        return next(self._elements)

    def stop(self) -> None:
        """Ends the dataset's threads."""
        self._elements = None


_AT_WORK: "weakref.WeakSet[_Stoppable]" = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for elements in tuple(_AT_WORK):
        elements.stop()


def train_batches(
    store: TokenStore, config: ConfigDict, start_step: int, stop_step: int, rows: RowsOf
) -> Iterator[Batch]:
    """The batches of the steps start_step ... stop_step - 1, of each this process's rows.

    Args:
      store: the corpus.
      config: of the run.
      start_step: the first step; any one costs the same.
      stop_step: the step behind the last one.
      rows: of a global batch of the given size, the rows that this process builds.

    Raises:
      UserError: the config makes no sense, or not with this corpus; at the call, not later.
    """
    batches = TrainBatches(store, config)
    streams = [
        BatchStream(
            lambda step: batches.batch(step, rows),
            range(max(start_step, phase.start), min(stop_step, phase.stop)),
            _group(rows(phase.global_batch_size), phase.sequence_length),
        )
        for phase in batches.phases
    ]
    return itertools.chain.from_iterable(streams)


def evaluation_batches(
    store: TokenStore,
    split: str,
    config: ConfigDict,
    batch_size: int,
    rows: RowsOf,
    sequence_length: int | None = None,
) -> BatchStream:
    """All of a split in fixed batches, the same in every run, of each this process's rows.

    Args:
      store: the corpus.
      split: its split, "heldout" or "train".
      config: of the run; gives the objective.
      batch_size: over all processes.
      rows: of a global batch of the given size, the rows that this process builds.
      sequence_length: L; the last phase's if not given.

    Raises:
      UserError: the config makes no sense, or not with this corpus.
    """
    length = sequence_length or phases(config)[-1].sequence_length
    batches = EvaluationBatches(store, split, config.stream.objective, length, batch_size, rows)
    return BatchStream(batches.batch, range(len(batches)), _group(rows(batch_size), length))


def _group(rows: Int64[np.ndarray, "rows"], sequence_length: int) -> int:
    tokens = len(rows) * sequence_length
    return min(_LARGEST_GROUP, max(1, _GROUP_TOKENS // tokens))
