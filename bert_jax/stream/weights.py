"""Weights of sources, as the config spells them."""

from fractions import Fraction

from bert_jax.common.errors import UserError


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
