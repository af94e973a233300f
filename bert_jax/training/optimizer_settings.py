"""The settings of the optimizer, from the config."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.common.lengths import steps
from bert_jax.training.settings import OptimizerSettings, Section


def parse_optimizer(config: ConfigDict) -> OptimizerSettings:
    """The settings of `config.optimizer`; `config.total_steps` is set.

    Raises:
      UserError: the parts of the run over which the learning rate goes are invalid.
    """
    return optimizer_settings(
        config.optimizer.to_dict(),
        _sections(config),
        config.learning_rate,
        config.model.hidden_size,
    )


def optimizer_settings(
    fields: Mapping[str, Any],
    sections: tuple[Section, ...],
    learning_rate: float,
    hidden_size: int,
) -> OptimizerSettings:
    """The settings from the fields of `config.optimizer` and what is set elsewhere.

    Args:
      fields: of the config; those that belong to the sections and to objectives are left out.
      sections: of the schedule.
      learning_rate: the peak.
      hidden_size: of the model.

    Raises:
      UserError: a field is invalid.
    """
    others = ("next_sentence_weight", "restarts")
    values = {name: value for name, value in fields.items() if name not in others}
    total_steps = sections[-1].start + sections[-1].steps
    for name in ("decay_steps", "average_last"):
        values[name] = steps(f"optimizer.{name}", values[name], total_steps)
    if values["average_last"] > total_steps:
        raise UserError(
            f"config.optimizer.average_last is {values['average_last']}, and the run has "
            f"{total_steps} steps: set it to so many or fewer, or to a share of the run, below 1"
        )
    values["rates"] = _rates(values["rates"])
    return OptimizerSettings(sections, learning_rate, hidden_size, **values)


def _sections(config: ConfigDict) -> tuple[Section, ...]:
    """The parts of the run over which the learning-rate schedule goes once."""
    total = config.total_steps
    restarts = [dict(restart) for restart in config.optimizer.restarts]
    for index, restart in enumerate(restarts):
        if not {"at"} <= restart.keys() <= {"at", "warmup_steps", "peak"}:
            raise UserError(
                f"config.optimizer.restarts[{index}] is {restart}: give `at`, and if needed "
                "warmup_steps and peak"
            )
    starts = [0, *(round(restart["at"] * total) for restart in restarts), total]
    if sorted(set(starts)) != starts:
        raise UserError(
            f"config.optimizer.restarts begin at the steps {starts[1:-1]} of {total}: let their "
            "shares `at` ascend between 0 and 1"
        )
    values = [{"warmup_steps": config.warmup_steps}, *restarts]
    return tuple(
        Section(
            start=start,
            steps=stop - start,
            warmup_steps=steps("warmup_steps", each.get("warmup_steps", 0), total),
            peak=float(each.get("peak", 1.0)),
            is_last=stop == total,
        )
        for (start, stop), each in zip(itertools.pairwise(starts), values, strict=True)
    )


def _rates(given: Any) -> tuple[tuple[str, float], ...]:
    """Factors of the learning rates by parameter name: "regex=0.5; .*=1", or pairs of both."""
    parts = given
    if isinstance(given, str):
        parts = [part.rpartition("=")[::2] for part in given.split(";") if part.strip()]
    try:
        rates = tuple((str(regex).strip(), float(factor)) for regex, factor in parts)
        for regex, _ in rates:
            re.compile(regex)
    except (ValueError, TypeError, re.error) as error:
        raise UserError(
            f"config.optimizer.rates is {given!r}, which is no list of REGEX=FACTOR with ';' in "
            f"between ({error})"
        ) from error
    return rates
