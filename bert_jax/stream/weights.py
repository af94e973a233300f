"""Weights of sources, parsed from the config."""

from collections.abc import Mapping
from fractions import Fraction

from bert_jax.common.errors import UserError

Weights = tuple[tuple[str, Fraction], ...]


def parse_weights(weights: str | Mapping[str, float], where: str) -> Weights:
    """The share of each source; sources that are not named have none.

    Args:
      weights: `{"wiki": 0.7, "web": 0.3}`, or the text `wiki=0.7, web=0.3`; empty: no weights.
      where: the config field that has them.

    Raises:
      UserError: an entry cannot be read, a weight is negative, or none is above 0.
    """
    if not weights:
        return ()
    if isinstance(weights, str):
        pairs = [entry.strip().rpartition("=")[::2] for entry in weights.split(",")]
    else:
        pairs = [(str(name), str(number)) for name, number in weights.items()]
    shares: dict[str, Fraction] = {}
    for name, number in pairs:
        try:
            share = Fraction(number)
        except (ValueError, ZeroDivisionError):
            share = Fraction(-1)
        if not name or share < 0:
            entry = f"{name}={number}" if name else number
            raise UserError(
                f"{where}={weights!r}: {entry!r} is not of the form name=weight, with a weight "
                "that is a number and not below 0; write 'wiki=0.7, web=0.3'"
            )
        if name in shares:
            raise UserError(f"{where}={weights!r} names {name!r} twice")
        shares[name] = share
    if not any(shares.values()):
        raise UserError(f"{where}={weights!r}: at least one weight must be above 0")
    return tuple(shares.items())
