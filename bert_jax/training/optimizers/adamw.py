"""AdamW (https://arxiv.org/abs/1711.05101); its weight decay is scaled by the learning rate."""

import optax

from bert_jax.training.optimizers.base import DECAYED, Optimizer
from bert_jax.training.parameter_rules import assign
from bert_jax.training.settings import OptimizerSettings


def adamw(settings: OptimizerSettings, schedule: optax.Schedule) -> Optimizer:
    """AdamW on all parameters."""

    def learning_rate(step):
        return settings.learning_rate * schedule(step)

    update = optax.adamw(
        learning_rate,
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        mask=lambda params: assign(DECAYED, params),
    )
    return Optimizer(update, {"learning_rate": learning_rate})
