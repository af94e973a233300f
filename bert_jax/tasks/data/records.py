"""What a labelled example is, and how a file of them is written."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bert_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The fields of `config.data`."""

    train: str
    validation: str
    test: str
    format: str
    text: str
    text_pair: str
    text_negative: str
    label: str
    choices: str
    tokens: str
    tags: str
    validation_fraction: float
    limit: int


@dataclasses.dataclass(frozen=True)
class Record:
    """One example: its values by column, and where it was read, for messages."""

    values: Mapping[Any, Any]
    where: str

    def text(self, column: str, field: str) -> str:
        """The text of a column; it must not be empty.

        Args:
          column: its name, or its number in files without a header.
          field: of the config that named the column.

        Raises:
          UserError: there is no such column, or nothing in it.
        """
        value = self.value(column, field)
        if not isinstance(value, str):
            raise UserError(f"{self.where}: {column!r} is {value!r}, where a text is expected")
        if not value.strip():
            raise UserError(
                f"{self.where}: the text in {column!r} is empty: fill or remove the row"
            )
        return value

    def value(self, column: str, field: str) -> Any:
        """The value of a column.

        Raises:
          UserError: there is no such column.
        """
        if column not in self.values:
            raise UserError(
                f"{self.where} has no {column!r}: set config.data.{field} to one of "
                f"{', '.join(map(str, self.values))}"
            )
        return self.values[column]
