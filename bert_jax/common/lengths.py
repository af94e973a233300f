"""Lengths of a run and its parts, as the config gives them: in time, in steps, or as shares."""

import math
import re

from bert_jax.common.errors import UserError


def seconds(name: str, text: str) -> float:
    """Seconds of `40s`, `5m`, `1.5h`; 0 of an empty text.

    Args:
      name: of the config field, for messages.
      text: its value.

    Raises:
      UserError: it is none of these.
    """
    if not text:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    value = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not value:
        raise UserError(f"config.{name} is {text!r}: give a time as in 40s, 5m or 1.5h")
    return value


def steps(name: str, value: float | int, total_steps: int, *, least: int = 0) -> int:
    """A number of steps that the config gives as such, or below 1 as a share of `total_steps`."""
    if 0 < value < 1:
        return max(1, round(value * total_steps))
    if value < least or value != round(value):
        raise UserError(
            f"config.{name} is {value}: set it to a whole number of steps, {least} or more, or "
            "to a share of total_steps, below 1"
        )
    return round(value)


def interval(name: str, value: float | int, total_steps: int) -> int:
    """Steps from one event of a run to the next, as `steps`; a share is rounded up.

    A fifth of any run then gives five events, and not a sixth close to the end.
    """
    if 0 < value < 1:
        return math.ceil(round(value * total_steps, 6))
    return steps(name, value, total_steps, least=1)
