"""Optimizers, the learning-rate schedule, and which parameters decay."""

from typing import Any

import optax
from ml_collections import ConfigDict
from optax.contrib import MuonDimensionNumbers

from bert_jax.common.errors import UserError
from bert_jax.training.parameter_rules import assign

# Decoupled weight decay on matrices only (https://arxiv.org/abs/1810.04805, appendix A.2).
DECAYED = (
    (r"kernel|embedding", True),
    (r"bias|scale", False),
)

# Muon orthogonalises the update of each matrix: the axes it reduces and the axes it puts out; an
# axis in neither (query, key, value; activation, gate) holds matrices of their own. None: AdamW.
MUON_MATRICES = (
    (r"attention\.qkv\.kernel", MuonDimensionNumbers(0, (2, 3))),  # [D, 3, N, H]
    (r"attention\.output\.kernel", MuonDimensionNumbers((0, 1), 2)),  # [N, H, D]
    (r"feed_forward\.input\.kernel", MuonDimensionNumbers(0, -1)),  # [D, F] or [D, 2, F]
    (r"feed_forward\.output\.kernel", MuonDimensionNumbers(0, 1)),  # [F, D]
    (r"mlm_head\.transform\.kernel", MuonDimensionNumbers(0, 1)),  # [D, D]
    (r"(nsp_head|mlm_head)\..*|embedding|bias|scale", None),
)


def learning_rate_schedule(config: ConfigDict) -> optax.Schedule:
    """The learning rate at a step as a share of its peak.

    Linear warm-up from 0 over `warmup_steps`, then linear decay to `final_lr_fraction` at
    `total_steps` (https://arxiv.org/abs/1810.04805, appendix A.2).

    Raises:
      UserError: the warm-up does not fit into the run.
    """
    if not 0 <= config.warmup_steps < config.total_steps:
        raise UserError(
            f"config.warmup_steps is {config.warmup_steps} and config.total_steps is "
            f"{config.total_steps}: warm up over fewer steps than the run has"
        )
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, 1.0, config.warmup_steps),
            optax.linear_schedule(
                1.0, config.optimizer.final_lr_fraction, config.total_steps - config.warmup_steps
            ),
        ],
        boundaries=[config.warmup_steps],
    )


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of a run: AdamW, or Muon on the encoder's matrices and AdamW on the rest.

    Muon: https://kellerjordan.github.io/posts/muon, by way of `optax.contrib.muon`. Weight decay
    of both is decoupled and scaled by the learning rate (https://arxiv.org/abs/1711.05101).

    Raises:
      UserError: `config.optimizer.name` is not known.
    """
    settings = config.optimizer
    share = learning_rate_schedule(config)
    adamw = optax.adamw(
        lambda step: config.learning_rate * share(step),
        b1=settings.b1,
        b2=settings.b2,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        mask=lambda params: assign(DECAYED, params),
    )
    if settings.name == "adamw":
        update = adamw
    elif settings.name == "muon":
        update = optax.partition({"muon": _muon(settings, share), "adamw": adamw}, _muon_labels)
    else:
        raise UserError(f"config.optimizer.name is {settings.name!r}: choose adamw or muon")
    if settings.clip_norm:
        return optax.chain(optax.clip_by_global_norm(settings.clip_norm), update)
    return update


def _muon(settings: ConfigDict, share: optax.Schedule) -> optax.GradientTransformation:
    return optax.contrib.muon(
        lambda step: settings.muon_learning_rate * share(step),
        beta=settings.muon_momentum,
        weight_decay=settings.weight_decay,
        muon_weight_dimension_numbers=lambda params: assign(MUON_MATRICES, params),
    )


def _muon_labels(params: Any) -> Any:
    labels = [(regex, "adamw" if axes is None else "muon") for regex, axes in MUON_MATRICES]
    return assign(labels, params)
