"""Labels of the data: texts, found in the training examples, in an order that does not change."""

from collections.abc import Sequence
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.tasks.data import Record


def label_text(value: Any, record: Record) -> str:
    """A label as text: numbers and booleans of JSON are labels too.

    Raises:
      UserError: there is none.
    """
    if value is None or not str(value).strip():
        raise UserError(f"{record.where} has an empty label: fill or remove the row")
    return str(value).strip()


def ordered(labels: set[str]) -> list[str]:
    """By number where all labels are integers, else by text."""
    if all(label.lstrip("-").isdigit() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)


def unknown(label: str, known: Sequence[str], record: Record, what: str = "label") -> UserError:
    """The error of an example whose label no training example has."""
    more = ", ..." if len(known) > 10 else ""
    return UserError(
        f"{record.where}: the {what} {label!r} is not one of the training examples' "
        f"({', '.join(known[:10])}{more}): fix it, or add training examples with it (config.data."
        "limit and the share that is held out for validation leave some out)"
    )
