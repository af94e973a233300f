"""The batch at a step, without TensorFlow: a pure function that can be called anywhere."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt32
from ml_collections import ConfigDict

from bert_jax.corpus.store import Split, TokenStore
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream import randomness
from bert_jax.stream.masking import Masker, max_predictions
from bert_jax.stream.mixture import mixtures
from bert_jax.stream.packed import PackedExamples
from bert_jax.stream.pairs import PairExamples
from bert_jax.stream.permutation import permute
from bert_jax.stream.phases import Phase, phases
from bert_jax.stream.randomness import Draw
from bert_jax.stream.rows import Batch

# (global batch size) -> the rows of the global batch that this process builds, ascending
RowsOf = Callable[[int], np.ndarray]

# Evaluation never changes: neither with the run's seed nor with its masking.
EVALUATION_SEED = 0xE7A1
EVALUATION_MASK_RATE = 0.15


@runtime_checkable
class Examples(Protocol):
    """The rows of an objective at one length, by their number in an epoch.

    Attributes:
      sizes: number of rows of each source in an epoch; those of a source stand together.
    """

    sizes: dict[str, int]

    def shard_of(self, index: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """The shard that each row is taken from."""

    def rows(
        self, index: Int64[np.ndarray, "B"], epoch: Int64[np.ndarray, "B"], draw: Draw
    ) -> Batch:
        """The rows `index` of the epochs `epoch`, before masking; what is random is of `draw`."""


def all_rows(global_batch_size: int) -> Int64[np.ndarray, "rows"]:
    """The rows of the only process."""
    return np.arange(global_batch_size)


class _Places(NamedTuple):
    """Which example each row of a phase is, and in which epoch of its source."""

    example: Int64[np.ndarray, "B"]
    epoch: Int64[np.ndarray, "B"]


class TrainBatches:
    """The global batch at every step of a run; `batch(step, rows_of)` computes one.

    Attributes:
      phases: of the run.
    """

    def __init__(self, store: TokenStore, config: ConfigDict):
        """Opens the train split.

        Raises:
          UserError: the config makes no sense, or not with this corpus.
        """
        self.phases = phases(config)
        self._seed = config.seed
        self._maskers = [
            Masker(
                store.vocabulary,
                phase.mask_unit,
                phase.mask_replace_prob,
                phase.random_replace_prob,
            )
            for phase in self.phases
        ]
        split = store.split("train")
        self._sources = split.sources
        if not any(phase.weights for phase in self.phases):
            split = split.as_one_source()
        self._examples = {
            length: _examples(
                config.stream.objective,
                split,
                store.vocabulary,
                length,
                config.stream.short_fraction,
            )
            for length in {phase.sequence_length for phase in self.phases}
        }
        sizes = {length: examples.sizes for length, examples in self._examples.items()}
        self._mixtures = mixtures(self.phases, sizes)
        numbers: list[tuple[int, ...]] = [(i,) for i in range(len(set(split.sources)))]
        self._order_keys = [
            randomness.key(config.seed, "order", *number)
            for number in (numbers if len(numbers) > 1 else [()])
        ]

    def phase_at(self, step: int) -> Phase:
        """The phase of `step`."""
        return next(phase for phase in self.phases if step < phase.stop)

    def num_examples(self, phase: Phase) -> int:
        """Examples in an epoch at the length of `phase`."""
        return sum(self._examples[phase.sequence_length].sizes.values())

    def example_index(self, step: int, rows_of: RowsOf = all_rows) -> Int64[np.ndarray, "B"]:
        """Which example each row at `step` is, out of `num_examples` of its phase."""
        phase = self.phase_at(step)
        return self._places(phase, _counter(phase, step, rows_of)).example

    def sources(self, step: int, rows_of: RowsOf = all_rows) -> list[str]:
        """The name of the source that each row at `step` comes from."""
        examples = self._examples[self.phase_at(step).sequence_length]
        shard = examples.shard_of(self.example_index(step, rows_of))
        return [self._sources[index] for index in shard.tolist()]

    def batch(self, step: int, rows_of: RowsOf = all_rows) -> Batch:
        """Rows of the global batch at `step`, any step of the run, at the same cost."""
        phase = self.phase_at(step)
        counter = _counter(phase, step, rows_of)
        draw = _draw(self._seed, phase.first_example + counter)
        places = self._places(phase, counter)
        rows = self._examples[phase.sequence_length].rows(places.example, places.epoch, draw)
        return rows | self._maskers[phase.index].mask(
            rows["input_ids"],
            rows["segment_ids"],
            phase.mask_rate_at(step),
            phase.max_predictions,
            draw,
        )

    def _places(self, phase: Phase, counter: Int64[np.ndarray, "B"]) -> _Places:
        source, number = self._mixtures[phase.index].deal(counter)
        index, epoch = np.empty_like(number), np.empty_like(number)
        first = 0
        sizes = self._examples[phase.sequence_length].sizes.values()
        for own, (size, key) in enumerate(zip(sizes, self._order_keys, strict=True)):
            rows = np.flatnonzero(source == own)
            if len(rows):
                epoch[rows], position = np.divmod(number[rows], size)
                index[rows] = first + permute(position, epoch[rows], size, key)
            first += size
        return _Places(index, epoch)


def _counter(phase: Phase, step: int, rows_of: RowsOf) -> Int64[np.ndarray, "B"]:
    """Counts the examples of a phase."""
    first = (step - phase.start) * phase.global_batch_size
    return first + rows_of(phase.global_batch_size)


class EvaluationBatches:
    """All examples of a split in fixed batches: same order and masks in every run and version.

    `batch(i)` is this process's rows of global batch i. The last one is filled up with padding
    rows: `masked_weights` 0, `segment_ids` 0, `next_sentence_label` -1.
    """

    def __init__(
        self,
        store: TokenStore,
        split: str,
        objective: str,
        sequence_length: int,
        batch_size: int,
        rows_of: RowsOf = all_rows,
    ):
        """Opens the split.

        Raises:
          UserError: the objective does not go with this split.
        """
        self._pad_id = store.vocabulary.pad_id
        self._masker = Masker(
            store.vocabulary, "token", mask_replace_prob=0.8, random_replace_prob=0.1
        )
        self._length = sequence_length
        self._batch_size = batch_size
        self._rows = rows_of(batch_size)
        self._examples = _examples(
            objective,
            store.split(split).as_one_source(),
            store.vocabulary,
            sequence_length,
            short_fraction=0.0,
        )
        self._size = sum(self._examples.sizes.values())

    def __len__(self) -> int:
        return -(-self._size // self._batch_size)

    def batch(self, index: int) -> Batch:
        """The rows of global batch `index` that are this process's."""
        counter = index * self._batch_size + self._rows
        counter = counter[counter < self._size]
        draw = _draw(EVALUATION_SEED, counter)
        rows = self._examples.rows(counter, np.zeros_like(counter), draw)
        batch = rows | self._masker.mask(
            rows["input_ids"],
            rows["segment_ids"],
            EVALUATION_MASK_RATE,
            max_predictions(EVALUATION_MASK_RATE, self._length),
            draw,
        )
        fill = {"input_ids": self._pad_id, "next_sentence_label": -1}
        return {
            name: np.pad(
                array,
                [(0, len(self._rows) - len(counter))] + [(0, 0)] * (array.ndim - 1),
                constant_values=fill.get(name, 0),
            )
            for name, array in batch.items()
        }


def _examples(
    objective: str,
    split: Split,
    vocabulary: Vocabulary,
    sequence_length: int,
    short_fraction: float,
) -> Examples:
    if objective == "packed":
        return PackedExamples(split, vocabulary, sequence_length)
    return PairExamples(split, vocabulary, objective, sequence_length, short_fraction)


def _draw(seed: int, counter: Int64[np.ndarray, "B"]) -> Draw:
    """The random numbers of these examples, drawn at once for those that follow each other."""
    runs = np.split(counter, np.flatnonzero(np.diff(counter) != 1) + 1)
    places = [(int(run[0]), len(run)) for run in runs if len(run)] or [(0, 0)]

    def draw(purpose: str, width: int) -> UInt32[np.ndarray, "_ _"]:
        parts = [randomness.bits(seed, purpose, first, count, width) for first, count in places]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return draw
