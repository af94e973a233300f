"""Stretches of a run with one batch shape each; pure in the step."""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from ml_collections import ConfigDict

from bert_jax.errors import UserError
from bert_jax.stream.masking import num_predictions
from bert_jax.stream.units import UNITS

PAIR_OBJECTIVES = ("nsp", "sop")  # with a next_sentence_label
OBJECTIVES = ("packed", *PAIR_OBJECTIVES)
SHORTEST = 8  # tokens of a row

# What a phase may set, of which type.
_KINDS: dict[str, tuple[type, str]] = {
    "until": (Real, "a number"),
    "sequence_length": (Integral, "a whole number"),
    "global_batch_size": (Integral, "a whole number"),
    "mask_rate": (Real, "a number"),
    "final_mask_rate": (Real, "a number"),
    "weights": (str, "a text such as 'wiki=0.7, web=0.3'"),
    "rope_theta": (Real, "a number"),
}


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
      weights: shares of the sources, see `parse_weights`; empty: by their sizes.
      rope_theta: rotary base of the global layers.
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
    weights: str
    rope_theta: float
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
    result: list[Phase] = []
    examples: dict[int, int] = {}
    start = 0
    for index, given in enumerate(config.stream.phases or ({},)):
        values = _phase_fields(index, given, config)
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


def phase_of(config: ConfigDict, step: int) -> Phase:
    """The phase that the state after `step` updates was last trained in; at step 0 the first."""
    return next(phase for phase in phases(config) if step <= phase.stop)


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


def parse_weights(weights: str, where: str) -> dict[str, Fraction]:
    """The shares of the sources: `wiki=0.7, web=0.3`; what is not named has none.

    Args:
      weights: the text.
      where: the field that it stands in.

    Raises:
      UserError: it cannot be read so.
    """
    shares: dict[str, Fraction] = {}
    for entry in weights.split(","):
        name, _, number = entry.strip().rpartition("=")
        try:
            share = Fraction(number)
        except (ValueError, ZeroDivisionError):
            share = Fraction(-1)
        if not name or share < 0:
            raise UserError(
                f"{where}={weights!r}: {entry.strip()!r} is not of the form name=weight, with a "
                "weight that is a number and not below 0; write 'wiki=0.7, web=0.3'"
            )
        if name in shares:
            raise UserError(f"{where}={weights!r} names {name!r} twice")
        shares[name] = share
    if not any(shares.values()):
        raise UserError(f"{where}={weights!r}: one weight at least must be above 0")
    return shares


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


def _phase_fields(index: int, given: Any, config: ConfigDict) -> dict[str, Any]:
    """All fields of a phase: what is given, and the run's where nothing is.

    Raises:
      UserError: a field is unknown, of another type, or makes no sense.
    """
    if not isinstance(given, Mapping | ConfigDict):
        raise UserError(
            f"config.stream.phases[{index}]={given!r} is not a dict of {', '.join(_KINDS)}"
        )
    run = {
        "until": 1.0,
        "global_batch_size": config.global_batch_size,
        "rope_theta": config.model.rope_theta,
    }
    values = {name: run[name] if name in run else config.stream[name] for name in _KINDS}
    values |= dict(given)

    def where(name: str) -> str:
        if name in given:
            return f"config.stream.phases[{index}].{name}"
        return f"config.{name}" if name in run else f"config.stream.{name}"

    for name, value in values.items():
        if name not in _KINDS:
            raise UserError(
                f"config.stream.phases[{index}] has the unknown field {name!r}; there are "
                f"{', '.join(_KINDS)}"
            )
        kind, description = _KINDS[name]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise UserError(f"{where(name)}={value!r} is not {description}")
    for name, least in (("global_batch_size", 1), ("sequence_length", SHORTEST)):
        if values[name] < least:
            raise UserError(f"{where(name)}={values[name]} is below {least}")
    for name in ("until", "mask_rate"):
        if not 0 < values[name] <= 1:
            raise UserError(f"{where(name)}={values[name]} is not a share in (0, 1]")
    if not 0 <= values["final_mask_rate"] <= 1:
        raise UserError(
            f"{where('final_mask_rate')}={values['final_mask_rate']} is not a share in [0, 1]"
        )
    model = config.model
    if model.position == "learned" and values["sequence_length"] > model.max_position_embeddings:
        raise UserError(
            f"{where('sequence_length')}={values['sequence_length']} is beyond the position table, "
            f"config.model.max_position_embeddings={model.max_position_embeddings}; raise it, or "
            "shorten the rows"
        )
    if "rope_theta" in given and (model.position != "rotary" or values["rope_theta"] <= 0):
        raise UserError(
            f"{where('rope_theta')}={values['rope_theta']} with config.model.position="
            f"{model.position!r}: a base goes with rotary positions, and is above 0"
        )
    if values["weights"]:
        parse_weights(values["weights"], where("weights"))
    return values
