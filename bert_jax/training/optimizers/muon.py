"""Muon (https://kellerjordan.github.io/posts/muon), with `optax.contrib.muon`."""

from typing import Any

import optax
from optax.contrib import MuonDimensionNumbers

from bert_jax.training.optimizers.adamw import adamw
from bert_jax.training.optimizers.base import Optimizer
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import OptimizerSettings

# Muon orthogonalizes the update of each matrix: (its input axes, its output axes). An axis in
# neither (query, key, value; activation, gate) counts separate matrices. None: AdamW.
MATRICES = (
    (r"attention\.qkv\.kernel", MuonDimensionNumbers(0, (2, 3))),  # [D, 3, N, H]
    (r"attention\.output\.kernel", MuonDimensionNumbers((0, 1), 2)),  # [N, H, D]
    (r"feed_forward\.input\.kernel", MuonDimensionNumbers(0, -1)),  # [D, F] or [D, 2, F]
    (r"feed_forward\.output\.kernel", MuonDimensionNumbers(0, 1)),  # [F, D]
    (r"mlm_head\.transform\.kernel", MuonDimensionNumbers(0, 1)),  # [D, D]
    (r"(nsp_head|mlm_head|heads)\..*|embedding|bias|scale", None),
)


def muon(settings: OptimizerSettings, schedule: optax.Schedule) -> Optimizer:
    """Muon on the encoder's matrices, AdamW on the other parameters."""

    def learning_rate(step):
        return settings.muon_learning_rate * schedule(step)

    of_matrices = optax.contrib.muon(
        learning_rate,
        beta=settings.muon_momentum,
        weight_decay=settings.weight_decay,
        muon_weight_dimension_numbers=lambda params: assign(MATRICES, params),
    )
    of_rest = adamw(settings, schedule)
    update = optax.partition({"muon": of_matrices, "adamw": of_rest.update}, _labels)
    return Optimizer(update, {**of_rest.learning_rates, "muon_learning_rate": learning_rate})


def _labels(params: Any) -> Any:
    return assign([(name, "muon" if axes else "adamw") for name, axes in MATRICES], params)
