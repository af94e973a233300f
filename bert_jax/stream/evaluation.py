"""The batches of an evaluation: the same examples and masks in every run and version."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.corpus.store import TokenStore
from bert_jax.stream.batches import RowsOf, all_rows, draw_for
from bert_jax.stream.examples import Examples
from bert_jax.stream.masking import Masker, max_predictions
from bert_jax.stream.rows import Batch
from bert_jax.stream.settings import ExampleSource

# Fixed, so that evaluations do not depend on the run's seed and masking.
SEED = 0xE7A1
MASK_RATE = 0.15

# Share of the predictions that are replaced by [MASK], and by a random token. In both ways the
# positions are the same.
MIXED = (0.8, 0.1)  # as BERT is trained; the rest is kept
MASK_ONLY = (1.0, 0.0)  # what fill-mask meets; no bias against models trained on [MASK] alone


class _Part(NamedTuple):
    """The examples that are taken from one source: `taken` of `size`, evenly spread."""

    source: str
    first: int
    size: int
    taken: int


class EvaluationBatches:
    """Examples of a split in fixed batches, all of one source in each batch.

    `batch(i)` is this process's rows of global batch i. The last batch of a source is filled up
    with padding rows: `masked_weights` and `segment_ids` are 0, other arrays are as
    `objective.padding` says.

    Attributes:
      sequence_length: L.
      batch_size: B, over all processes.
      rows: of a global batch, those that this process builds, ascending.
    """

    def __init__(
        self,
        store: TokenStore,
        split: str,
        objective: ExampleSource,
        sequence_length: int,
        batch_size: int,
        rows_of: RowsOf = all_rows,
        most: int | None = None,
        replacements: tuple[float, float] = MIXED,
    ):
        """Opens the split.

        Args:
          store: the corpus.
          split: of the store.
          objective: makes the rows.
          sequence_length: L.
          batch_size: B, over all processes.
          rows_of: the rows that this process builds.
          most: take at most this many batches of examples, evenly spread over each source; None:
            all. (Each source fills up its last batch.)
          replacements: MIXED or MASK_ONLY.

        Raises:
          UserError: the split does not have what the objective asks for.
        """
        vocabulary = store.vocabulary
        of_split = store.split(split)
        self._masker = Masker(vocabulary, "token", *replacements)
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self.rows = rows_of(batch_size)
        self._fill = {"input_ids": vocabulary.pad_id, **objective.padding}
        self._examples = objective.examples(
            of_split.as_one_source(), vocabulary, sequence_length, is_training=False
        )
        size = sum(self._examples.sizes.values())
        wanted = size if most is None else min(size, most * batch_size)
        parts = [
            _Part(source, first, last - first, -(-(last - first) * wanted // size))
            for source, first, last in _ranges(self._examples, of_split.sources, size)
        ]
        self._batches = [
            (part, start) for part in parts for start in range(0, part.taken, batch_size)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def source(self, index: int) -> str:
        """The source of global batch `index`."""
        return self._batches[index][0].source

    def batch(self, index: int) -> Batch:
        """The rows of global batch `index` that are this process's."""
        part, start = self._batches[index]
        number = start + self.rows
        example = part.first + number[number < part.taken] * part.size // part.taken
        draw = draw_for(SEED, example)
        rows = self._examples.rows(example, np.zeros_like(example), draw)
        batch = rows | self._masker.mask(
            rows["input_ids"],
            rows["segment_ids"],
            MASK_RATE,
            max_predictions(MASK_RATE, self.sequence_length),
            draw,
        )
        return {
            name: np.pad(
                array,
                [(0, len(self.rows) - len(example))] + [(0, 0)] * (array.ndim - 1),
                constant_values=self._fill.get(name, 0),
            )
            for name, array in batch.items()
        }


def _ranges(
    examples: Examples, sources: Sequence[str], size: int
) -> Iterator[tuple[str, int, int]]:
    """Each source's name, first example, and the example after its last."""

    def shard_of(example: int) -> int:
        return int(examples.shard_of(np.array([example]))[0])

    starts = [i for i, name in enumerate(sources) if i == 0 or name != sources[i - 1]]
    edges = [bisect.bisect_left(range(size), shard, key=shard_of) for shard in starts]
    for shard, (first, last) in zip(starts, itertools.pairwise([*edges, size]), strict=True):
        if first < last:
            yield sources[shard], first, last
