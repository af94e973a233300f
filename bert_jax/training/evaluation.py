"""The losses and metrics of a model on a split of the corpus.

Tokens are masked in two ways: as BERT is trained (80 % [MASK], 10 % random, 10 % kept), and by
[MASK] alone. A run that is trained on [MASK] alone looks worse on the first and is as good on
downstream tasks, so that both are reported: `mlm_accuracy` and `mask_only_accuracy`.
"""

from collections.abc import Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from bert_jax.corpus.store import TokenStore
from bert_jax.model import Params
from bert_jax.stream import evaluation
from bert_jax.stream.batches import RowsOf, all_rows
from bert_jax.stream.evaluation import EvaluationBatches
from bert_jax.stream.rows import Batch
from bert_jax.stream.settings import ExampleSource
from bert_jax.training import sharding
from bert_jax.training.step import Steps, TotalsByName

ALL = ""  # key of the totals over all sources
MASK_ONLY = "mask_only"  # name of the loss of masked tokens where all of them are [MASK]


def evaluate(
    mesh: Mesh,
    steps: Steps,
    params: Params,
    of: EvaluationBatches,
    batches: Iterable[Batch],
) -> dict[str, TotalsByName]:
    """The totals over an evaluation, by source and of `ALL`.

    Added in float64 on the host while the device computes the next batch.

    Args:
      mesh: of the devices.
      steps: of the run.
      params: to evaluate.
      of: says which source each batch is from.
      batches: its batches, in order.
    """
    totals: dict[str, TotalsByName] = {ALL: {}}

    def add(source: str, found: TotalsByName) -> None:
        wide = jax.tree.map(lambda array: np.asarray(array, np.float64), jax.device_get(found))
        for name in (ALL, source):
            before = totals.get(name)
            totals[name] = jax.tree.map(np.add, before, wide) if before else wide

    pending: tuple[str, TotalsByName] | None = None
    for index, batch in enumerate(batches):
        placed = sharding.place_batch(mesh, dict(batch), of.batch_size)
        found = steps.evaluate(params, placed)
        if pending:
            add(*pending)
        pending = of.source(index), found
    if pending:
        add(*pending)
    return totals


class HeldOut:
    """The evaluation of a run: its batches with both kinds of masks.

    The second kind is evaluated on half as many batches, which adds half to the cost.
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
    ):
        """As `EvaluationBatches`; `most` bounds the batches with the mixed masks."""
        from bert_jax.stream import pipeline  # imports TensorFlow, which takes seconds

        half = most and (most + 1) // 2
        kinds = ((evaluation.MIXED, most), (evaluation.MASK_ONLY, half))
        self.mixed, self.mask_only = (
            EvaluationBatches(
                store, split, objective, sequence_length, batch_size, rows_of, limit, kind
            )
            for kind, limit in kinds
        )
        self._batches = [
            (each, pipeline.evaluation_batches(each)) for each in (self.mixed, self.mask_only)
        ]

    def __len__(self) -> int:
        """Batches of an evaluation, of both kinds."""
        return len(self.mixed) + len(self.mask_only)

    def totals(self, mesh: Mesh, steps: Steps, params: Params) -> dict[str, TotalsByName]:
        """The totals of `params` by source and of `ALL`, with those of MASK_ONLY beside `mlm`."""
        mixed, mask_only = (
            evaluate(mesh, steps, params, each, batches) for each, batches in self._batches
        )
        return {
            source: {**found, MASK_ONLY: mask_only[source]["mlm"]}
            for source, found in mixed.items()
        }
