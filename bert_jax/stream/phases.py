"""Stretches of a run with one batch shape each; pure in the step."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bert_jax.errors import UserError
from bert_jax.stream.masking import num_predictions
from bert_jax.stream.units import UNITS

PAIR_OBJECTIVES = ("nsp", "sop")  # with a next_sentence_label
OBJECTIVES = ("packed", *PAIR_OBJECTIVES)
SHORTEST = 8  # tokens of a row
_FIELDS = ("until", "sequence_length", "global_batch_size", "mask_rate", "final_mask_rate")


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps that share the shape of their batches.

    Attributes:
      index: 0, 1, ... in the order of the run.
      start: its first step.
      stop: the first step behind it.
      sequence_length: L.
      global_batch_size: B, over all processes.
      mask_rate: share of the tokens to predict at its first step.
      final_mask_rate: the share that it moves to, linearly.
      predictions: P, places for predictions in a row.
      first_example: counter of its first example. Phases of one length continue one counter, so
        that no epoch is begun anew.
    """

    index: int
    start: int
    stop: int
    sequence_length: int
    global_batch_size: int
    mask_rate: float
    final_mask_rate: float
    predictions: int
    first_example: int

    def mask_rate_at(self, step: int) -> float:
        """Share of the tokens to predict at `step`."""
        progress = (step - self.start) / (self.stop - self.start)
        return self.mask_rate + (self.final_mask_rate - self.mask_rate) * progress


def phases(config: ConfigDict) -> tuple[Phase, ...]:
    """The phases of a run, one after another from step 0 to `config.total_steps`.

    Raises:
      UserError: a field of `config.stream` makes no sense.
    """
    _validate_stream(config.stream)
    default = {
        "until": 1.0,
        "sequence_length": config.stream.sequence_length,
        "global_batch_size": config.global_batch_size,
        "mask_rate": config.stream.mask_rate,
        "final_mask_rate": config.stream.final_mask_rate,
    }
    result: list[Phase] = []
    examples: dict[int, int] = {}
    start = 0
    for index, given in enumerate(config.stream.phases or ({},)):
        values = default | dict(given)
        _validate_phase(index, given, values, config)
        stop = round(values["until"] * config.total_steps)
        if stop <= start:
            raise UserError(
                f"config.stream.phases[{index}].until={values['until']} ends at step {stop}, not "
                f"behind its start at step {start}; let `until` ascend"
            )
        length, batch = values["sequence_length"], values["global_batch_size"]
        rate = values["mask_rate"]
        final_rate = values["final_mask_rate"] or rate
        result.append(
            Phase(
                index=index,
                start=start,
                stop=stop,
                sequence_length=length,
                global_batch_size=batch,
                mask_rate=rate,
                final_mask_rate=final_rate,
                predictions=num_predictions(max(rate, final_rate), length),
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


def _validate_stream(stream: ConfigDict) -> None:
    for name, choices in (("objective", OBJECTIVES), ("mask_unit", UNITS)):
        if stream[name] not in choices:
            raise UserError(
                f"config.stream.{name}={stream[name]!r} is none of {', '.join(choices)}"
            )
    for name in ("mask_share", "random_share", "short_fraction"):
        if not 0 <= stream[name] <= 1:
            raise UserError(f"config.stream.{name}={stream[name]} is not a share in [0, 1]")
    if stream.mask_share + stream.random_share > 1 + 1e-9:
        raise UserError(
            f"config.stream.mask_share={stream.mask_share} and random_share={stream.random_share} "
            "are more than 1 together"
        )


def _validate_phase(
    index: int, given: Mapping[str, Any], values: Mapping[str, Any], config: ConfigDict
) -> None:
    unknown = sorted(set(given) - set(_FIELDS))
    if unknown:
        raise UserError(
            f"config.stream.phases[{index}] has the unknown field {unknown[0]!r}; there are "
            f"{', '.join(_FIELDS)}"
        )

    def where(name: str) -> str:
        if name in given:
            return f"config.stream.phases[{index}].{name}"
        return (
            "config.global_batch_size" if name == "global_batch_size" else f"config.stream.{name}"
        )

    for name in ("sequence_length", "global_batch_size"):
        if not isinstance(values[name], int):
            raise UserError(f"{where(name)}={values[name]!r} is not a whole number")
    if values["global_batch_size"] < 1:
        raise UserError(f"{where('global_batch_size')}={values['global_batch_size']} is below 1")
    if values["sequence_length"] < SHORTEST:
        raise UserError(
            f"{where('sequence_length')}={values['sequence_length']} is below {SHORTEST}"
        )
    model = config.model
    if model.position == "learned" and values["sequence_length"] > model.max_position_embeddings:
        raise UserError(
            f"{where('sequence_length')}={values['sequence_length']} is beyond the position table, "
            f"config.model.max_position_embeddings={model.max_position_embeddings}; raise it, or "
            "shorten the rows"
        )
    if not 0 < values["mask_rate"] <= 1:
        raise UserError(f"{where('mask_rate')}={values['mask_rate']} is not a share in (0, 1]")
    if not 0 <= values["final_mask_rate"] <= 1:
        raise UserError(
            f"{where('final_mask_rate')}={values['final_mask_rate']} is not a share in [0, 1]"
        )
