"""Muon (https://kellerjordan.github.io/posts/muon), with `optax.contrib.muon`."""

from collections.abc import Callable
from typing import Any

import optax

from bert_jax.common.errors import UserError
from bert_jax.training.optimizers.adamw import adamw
from bert_jax.training.optimizers.base import Optimizer
from bert_jax.training.optimizers.matrices import MATRICES
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import OptimizerSettings

# Of an update's size: sqrt(max(1, outputs / inputs)), or a root mean square of 0.2 for any shape,
# about that of AdamW (https://arxiv.org/abs/2502.16982).
SCALES = {"width": None, "rms": 0.2}


def muon(settings: OptimizerSettings, schedule: optax.Schedule) -> Optimizer:
    """Muon on the encoder's matrices, AdamW on the other parameters.

    Raises:
      UserError: `config.optimizer.muon_scale` is none of the choices.
    """
    if settings.muon_scale not in SCALES:
        raise UserError(
            f"config.optimizer.muon_scale is {settings.muon_scale!r}: choose {' or '.join(SCALES)}"
        )

    def of_matrices(learning_rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.contrib.muon(
            learning_rate,
            beta=settings.muon_momentum,
            weight_decay=settings.weight_decay,
            muon_weight_dimension_numbers=lambda params: assign(MATRICES, params),
            consistent_rms=SCALES[settings.muon_scale],
        )

    return with_adamw_on_the_rest("muon", of_matrices, settings, schedule)


def with_adamw_on_the_rest(
    name: str,
    of_matrices: Callable[[optax.Schedule], optax.GradientTransformation],
    settings: OptimizerSettings,
    schedule: optax.Schedule,
) -> Optimizer:
    """An optimizer for the encoder's matrices, with AdamW for tables, norms, biases and the rest.

    Args:
      name: of the optimizer, in its state.
      of_matrices: makes it, with the learning rate `muon_learning_rate`.
      settings: of the run.
      schedule: of both rates.
    """

    def learning_rate(step):
        return settings.muon_learning_rate * schedule(step)

    def labels(params: Any) -> Any:
        return assign([(regex, name if axes else "adamw") for regex, axes in MATRICES], params)

    of_rest = adamw(settings, schedule)
    update = optax.partition({name: of_matrices(learning_rate), "adamw": of_rest.update}, labels)
    return Optimizer(update, {**of_rest.learning_rates, "muon_learning_rate": learning_rate})
