"""The batch at a step, without TensorFlow: a pure function that can be called anywhere."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt32

from bert_jax.corpus.store import TokenStore
from bert_jax.stream import randomness
from bert_jax.stream.left_out import LeftOut, batch_number, examples_left_out
from bert_jax.stream.masking import Masker
from bert_jax.stream.mixture import mixtures
from bert_jax.stream.permutation import permute
from bert_jax.stream.phases import Phase
from bert_jax.stream.randomness import Draw
from bert_jax.stream.rows import Batch
from bert_jax.stream.settings import StreamSettings

# (global batch size) -> the rows of the global batch that this process builds, ascending
RowsOf = Callable[[int], np.ndarray]


def all_rows(global_batch_size: int) -> Int64[np.ndarray, "rows"]:
    """All rows: those of the only process."""
    return np.arange(global_batch_size)


class _Position(NamedTuple):
    """The example that each row of a batch shows, and in which epoch of its source."""

    example: Int64[np.ndarray, "B"]
    epoch: Int64[np.ndarray, "B"]


class TrainBatches:
    """The global batch at every step of a run; `batch(step, rows_of)` computes one.

    The examples of a phase are counted through its steps. From its count follows, for each example,
    its source (by the mixture's weights), its number within that source, hence its epoch, and by a
    permutation of the epoch the row to show. Nothing is stored, so any step costs the same.
    """

    def __init__(
        self, store: TokenStore, settings: StreamSettings, left_out: Sequence[LeftOut] = ()
    ):
        """Opens the train split.

        Args:
          store: the corpus.
          settings: of the run.
          left_out: batches that no step uses, in ascending order.

        Raises:
          UserError: the corpus lacks what the objective or the weights need.
        """
        self.settings = settings
        self._left_out = left_out
        self._maskers = [
            Masker(
                store.vocabulary,
                phase.mask_unit,
                phase.mask_replace_prob,
                phase.random_replace_prob,
            )
            for phase in settings.phases
        ]
        split = store.split("train")
        self._source_of_shard = split.sources
        if not any(phase.weights for phase in settings.phases):
            split = split.as_one_source()
        self._examples = {
            length: settings.objective.examples(split, store.vocabulary, length, is_training=True)
            for length in {phase.sequence_length for phase in settings.phases}
        }
        sizes = {length: examples.sizes for length, examples in self._examples.items()}
        self._mixtures = mixtures(settings.phases, sizes)
        # One key for each source's permutations. A corpus without weights is a single source, whose
        # key has no number.
        numbers: list[tuple[int, ...]] = [(i,) for i in range(len(set(split.sources)))]
        self._order_keys = [
            randomness.key(settings.seed, "order", *number)
            for number in (numbers if len(numbers) > 1 else [()])
        ]

    def num_examples(self, phase: Phase) -> int:
        """Examples in an epoch at the length of `phase`."""
        return sum(self._examples[phase.sequence_length].sizes.values())

    def example_index(self, step: int, rows_of: RowsOf = all_rows) -> Int64[np.ndarray, "B"]:
        """The example that each row at `step` shows, out of `num_examples` of its phase."""
        phase = self.settings.phase_at(step)
        return self._positions(phase, self._count(phase, step, rows_of)).example

    def sources(self, step: int, rows_of: RowsOf = all_rows) -> list[str]:
        """The name of the source that each row at `step` comes from."""
        examples = self._examples[self.settings.phase_at(step).sequence_length]
        shard = examples.shard_of(self.example_index(step, rows_of))
        return [self._source_of_shard[index] for index in shard.tolist()]

    def batch(self, step: int, rows_of: RowsOf = all_rows) -> Batch:
        """The rows of the global batch at `step` that this process builds."""
        phase = self.settings.phase_at(step)
        count = self._count(phase, step, rows_of)
        draw = draw_for(self.settings.seed, phase.first_example + count)
        position = self._positions(phase, count)
        examples = self._examples[phase.sequence_length]
        rows = examples.rows(position.example, position.epoch, draw)
        return rows | self._maskers[phase.index].mask(
            rows["input_ids"],
            rows["segment_ids"],
            phase.mask_rate_at(step),
            phase.max_predictions,
            draw,
        )

    def _count(self, phase: Phase, step: int, rows_of: RowsOf) -> Int64[np.ndarray, "B"]:
        """The number of each row at `step` among all examples of its phase."""
        before = examples_left_out(self._left_out, self.settings.phases, phase)
        number = batch_number(self._left_out, phase, step)
        first = before + (number - phase.start) * phase.global_batch_size
        return first + rows_of(phase.global_batch_size)

    def _positions(self, phase: Phase, count: Int64[np.ndarray, "B"]) -> _Position:
        source, number = self._mixtures[phase.index].deal(count)
        example, epoch = np.empty_like(number), np.empty_like(number)
        first = 0  # example of a source
        sizes = self._examples[phase.sequence_length].sizes.values()
        for index, (size, key) in enumerate(zip(sizes, self._order_keys, strict=True)):
            rows = np.flatnonzero(source == index)
            if len(rows):
                epoch[rows], position = np.divmod(number[rows], size)
                example[rows] = first + permute(position, epoch[rows], size, key)
            first += size
        return _Position(example, epoch)


def draw_for(seed: int, counter: Int64[np.ndarray, "B"]) -> Draw:
    """The random numbers of the examples with these numbers.

    They are made for a range of examples at a time, so one call serves each run of consecutive
    numbers: all rows of the only process, or the blocks that a host of a TPU slice holds.
    """
    runs = np.split(counter, np.flatnonzero(np.diff(counter) != 1) + 1)
    ranges = [(int(run[0]), len(run)) for run in runs if len(run)] or [(0, 0)]

    def draw(purpose: str, width: int) -> UInt32[np.ndarray, "_ _"]:
        parts = [randomness.bits(seed, purpose, first, count, width) for first, count in ranges]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return draw
