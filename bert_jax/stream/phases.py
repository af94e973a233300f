"""Phases: parts of a run whose batches have one shape each."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.stream.masking import max_predictions
from bert_jax.stream.phase_fields import phase_fields
from bert_jax.stream.weights import Weights


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps that share the shape of their batches.

    Attributes:
      index: 0, 1, ... in the order of the run.
      start: its first step.
      stop: the first step after it.
      sequence_length: L.
      global_batch_size: B, over all processes.
      mask_rate: share of the tokens to predict at its first step.
      final_mask_rate: the share at its end; it changes linearly in between.
      max_predictions: P, the most predictions of a row.
      mask_unit: what is masked together, one of `units.UNITS`.
      mask_replace_prob: of the predictions, replaced by [MASK].
      random_replace_prob: of the predictions, replaced by a random token.
      weights: share of each source; empty: by their sizes.
      rope_theta: rotary base of the global layers.
      first_example: number of its first example. Phases of one length continue one count, so that
        no epoch starts again.
    """

    index: int
    start: int
    stop: int
    sequence_length: int
    global_batch_size: int
    mask_rate: float
    final_mask_rate: float
    max_predictions: int
    mask_unit: str
    mask_replace_prob: float
    random_replace_prob: float
    weights: Weights
    rope_theta: float
    first_example: int

    def mask_rate_at(self, step: int) -> float:
        """Share of the tokens to predict at `step`."""
        progress = (step - self.start) / (self.stop - self.start)
        return self.mask_rate + (self.final_mask_rate - self.mask_rate) * progress


def parse_phases(config: ConfigDict) -> tuple[Phase, ...]:
    """The phases of a run, one after another from step 0 to `config.total_steps`.

    Raises:
      UserError: a field of `config.stream` is invalid.
    """
    run_rate = _Rate.of(config.stream.mask_rate, config.stream.final_mask_rate)
    result: list[Phase] = []
    examples: dict[int, int] = {}
    start = 0
    for index, given in enumerate(config.stream.phases or ({},)):
        values = phase_fields(index, given, config)
        stop = round(values["until"] * config.total_steps)
        if stop <= start:
            raise UserError(
                f"config.stream.phases[{index}].until={values['until']} ends at step {stop}, not "
                f"after its start at step {start}; let `until` ascend"
            )
        length, batch = values["sequence_length"], values["global_batch_size"]
        rate = _mask_rate(given, run_rate, start / config.total_steps, stop / config.total_steps)
        result.append(
            Phase(
                index=index,
                start=start,
                stop=stop,
                sequence_length=length,
                global_batch_size=batch,
                mask_rate=rate.first,
                final_mask_rate=rate.last,
                max_predictions=max_predictions(max(rate), length),
                mask_unit=values["mask_unit"],
                mask_replace_prob=float(values["mask_replace_prob"]),
                random_replace_prob=float(values["random_replace_prob"]),
                weights=values["weights"],
                rope_theta=float(values["rope_theta"]),
                first_example=examples.get(length, 0),
            )
        )
        examples[length] = examples.get(length, 0) + (stop - start) * batch
        start = stop
    if start != config.total_steps:
        raise UserError(
            f"the last of config.stream.phases ends at step {start} of {config.total_steps}; set "
            "its until=1.0"
        )
    return tuple(result)


class _Rate(NamedTuple):
    """A mask rate that changes linearly over a run or a phase."""

    first: float
    last: float

    @classmethod
    def of(cls, first: float, last: float) -> "_Rate":
        """From the config's two fields: a last rate of 0 means that the rate stays."""
        return cls(first, last or first)

    def at(self, progress: float) -> float:
        return (1 - progress) * self.first + progress * self.last


def _mask_rate(given: Mapping[str, Any], run: _Rate, start: float, stop: float) -> _Rate:
    """The rate of a phase: as it sets it, else its section of the run's."""
    if "mask_rate" in given or "final_mask_rate" in given:
        first, last = given.get("mask_rate", run.at(start)), given.get("final_mask_rate", 0)
        return _Rate.of(float(first), float(last))
    return _Rate(run.at(start), run.at(stop))


def batch_size_warmup(first: int, last: int, until: float, stages: int) -> tuple[dict, ...]:
    """Phases for a config file whose batch size grows geometrically from `first` to `last`.

    Every stage compiles the step once more.

    Args:
      first: global batch size at the start.
      last: global batch size from `until` on; a multiple of `first`.
      until: share of the steps at which `last` is reached.
      stages: batch sizes before `last`, equally many steps each; rounded to multiples of `first`.
    """
    sizes = [first * round((last / first) ** (i / stages)) for i in range(stages)]
    warmup = [
        {"until": until * (i + 1) / stages, "global_batch_size": size}
        for i, size in enumerate(sizes)
    ]
    return (*warmup, {"until": 1.0, "global_batch_size": last})
