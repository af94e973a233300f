"""The losses and metrics of a model on a split of the corpus."""

from collections.abc import Iterable

import jax
import numpy as np
from jax.sharding import Mesh

from bert_jax.model import Params
from bert_jax.stream.evaluation import EvaluationBatches
from bert_jax.stream.rows import Batch
from bert_jax.training import sharding
from bert_jax.training.step import Steps, TotalsByName

ALL = ""  # key of the totals over all sources


def evaluate(
    mesh: Mesh,
    steps: Steps,
    params: Params,
    evaluation: EvaluationBatches,
    batches: Iterable[Batch],
) -> dict[str, TotalsByName]:
    """The totals over an evaluation, by source and of `ALL`.

    Added in float64 on the host while the device computes the next batch.

    Args:
      mesh: of the devices.
      steps: of the run.
      params: to evaluate.
      evaluation: says which source each batch is from.
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
        placed = sharding.place_batch(mesh, dict(batch), evaluation.batch_size)
        found = steps.evaluate(params, placed)
        if pending:
            add(*pending)
        pending = evaluation.source(index), found
    if pending:
        add(*pending)
    return totals
