"""Batches built ahead of the step: tf.data's threads and prefetching, without its state."""

import atexit
import dataclasses
import itertools
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from jaxtyping import Int64

from bert_jax.stream.batches import RowsOf, TrainBatches
from bert_jax.stream.evaluation import EvaluationBatches
from bert_jax.stream.rows import Batch

# The accelerators belong to JAX.
tf.config.set_visible_devices([], "GPU")

_AHEAD = 2  # groups of batches that wait for the step
_LARGEST_GROUP = 8  # batches that are handed over together
_GROUP_TOKENS = 2**18  # most tokens of a group of several batches


@dataclasses.dataclass(frozen=True)
class BatchStream:
    """The batches `build(index)` for each of `indices`, in order; can be iterated again.

    One thread builds ahead. More would not help: they would share one interpreter lock.

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
        # Only indices pass through TensorFlow: the arrays stay in Python and are not copied.
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
        # There is nothing to tune, and the end of the data would wait for the tuner's thread.
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

    A dataset that is still running when Python shuts down would wait forever for the interpreter
    to build its next batch, so it is stopped before.
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
    batches: TrainBatches, start_step: int, stop_step: int, rows: RowsOf
) -> Iterator[Batch]:
    """The batches of the steps start_step ... stop_step - 1, of each this process's rows.

    Args:
      batches: of the run.
      start_step: the first step; starting at any step takes the same time.
      stop_step: the step after the last one.
      rows: of a global batch of the given size, the rows that this process builds.
    """
    streams = [
        BatchStream(
            lambda step: batches.batch(step, rows),
            range(max(start_step, phase.start), min(stop_step, phase.stop)),
            _group(rows(phase.global_batch_size), phase.sequence_length),
        )
        for phase in batches.settings.phases
    ]
    return itertools.chain.from_iterable(streams)


def evaluation_batches(batches: EvaluationBatches) -> BatchStream:
    """The batches of an evaluation in order, of each this process's rows."""
    group = _group(batches.rows, batches.sequence_length)
    return BatchStream(batches.batch, range(len(batches)), group)


def _group(rows: Int64[np.ndarray, "rows"], sequence_length: int) -> int:
    tokens = len(rows) * sequence_length
    return min(_LARGEST_GROUP, max(1, _GROUP_TOKENS // tokens))
