"""The fields of a phase, parsed and checked."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.common.renamed import RENAMED_FIELDS
from bert_jax.stream.units import UNITS
from bert_jax.stream.weights import parse_weights

SHORTEST = 8  # tokens of a row

# What a phase may set, of which type.
PHASE_FIELDS: dict[str, tuple[Any, str]] = {
    "until": (Real, "a number"),
    "sequence_length": (Integral, "a whole number"),
    "global_batch_size": (Integral, "a whole number"),
    "mask_rate": (Real, "a number"),
    "final_mask_rate": (Real, "a number"),
    "mask_unit": (str, "a text"),
    "mask_replace_prob": (Real, "a number"),
    "random_replace_prob": (Real, "a number"),
    "weights": (str | Mapping, "a dict or a text such as 'wiki=0.7, web=0.3'"),
    "rope_theta": (Real, "a number"),
}


def phase_fields(index: int, given: Any, config: ConfigDict) -> dict[str, Any]:
    """All fields of a phase: those that it sets, else the run's; `weights` parsed.

    Args:
      index: of the phase, for messages.
      given: the phase as the config has it.
      config: of the run.

    Raises:
      UserError: a field is unknown, has another type, or is invalid.
    """
    if not isinstance(given, Mapping | ConfigDict):
        raise UserError(
            f"config.stream.phases[{index}]={given!r} is not a dict of {', '.join(PHASE_FIELDS)}"
        )
    run = {
        "until": 1.0,
        "global_batch_size": config.global_batch_size,
        "rope_theta": config.model.rope_theta,
    }
    values = {name: run[name] if name in run else config.stream[name] for name in PHASE_FIELDS}
    values |= dict(given)

    def where(name: str) -> str:
        if name in given:
            return f"config.stream.phases[{index}].{name}"
        return f"config.{name}" if name in run else f"config.stream.{name}"

    for name, value in values.items():
        if name in RENAMED_FIELDS:
            raise UserError(
                f"config.stream.phases[{index}].{name} is now called {RENAMED_FIELDS[name]!r}: "
                "rename it"
            )
        if name not in PHASE_FIELDS:
            raise UserError(
                f"config.stream.phases[{index}] has the unknown field {name!r}; there are "
                f"{', '.join(PHASE_FIELDS)}"
            )
        kind, description = PHASE_FIELDS[name]
        if isinstance(value, bool) or not isinstance(value, kind):
            raise UserError(f"{where(name)}={value!r} is not {description}")
    for name, least in (("global_batch_size", 1), ("sequence_length", SHORTEST)):
        if values[name] < least:
            raise UserError(f"{where(name)}={values[name]} is below {least}")
    for name in ("until", "mask_rate"):
        if not 0 < values[name] <= 1:
            raise UserError(f"{where(name)}={values[name]} is not a share in (0, 1]")
    for name in ("final_mask_rate", "mask_replace_prob", "random_replace_prob"):
        if not 0 <= values[name] <= 1:
            raise UserError(f"{where(name)}={values[name]} is not a share in [0, 1]")
    if values["mask_unit"] not in UNITS:
        raise UserError(
            f"{where('mask_unit')}={values['mask_unit']!r} is none of {', '.join(UNITS)}"
        )
    if values["mask_replace_prob"] + values["random_replace_prob"] > 1 + 1e-9:
        raise UserError(
            f"{where('mask_replace_prob')}={values['mask_replace_prob']} and "
            f"{where('random_replace_prob')}="
            f"{values['random_replace_prob']} are more than 1 together"
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
    values["weights"] = parse_weights(values["weights"], where("weights"))
    return values
