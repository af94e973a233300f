"""The text in a field of a record, wherever it is nested: `text`, `meta.text`, lists of strings."""

from collections.abc import Iterable, Mapping
from typing import Any

from bert_jax.corpus.readers.base import BadRecordError
from bert_jax.corpus.readers.lines import paragraphs
from bert_jax.corpus.readers.paths import shown

_NAMES_SHOWN = 400  # characters


def text_of(record: Any, field: str, decode_errors: str) -> list[str]:
    """The paragraphs in a field of a record.

    Args:
      record: a dict of dicts, lists, strings, bytes and other values.
      field: a name, or names with dots between them for a field within a field; of a list of
        records, the field of each.
      decode_errors: for `bytes.decode`.

    Raises:
      BadRecordError: there is no such field, or it holds something else than text.
      UnicodeDecodeError: bytes are not UTF-8, and `decode_errors` is "strict".
    """
    try:
        if not isinstance(record, Mapping):
            raise KeyError(field)
        value = find(record, field)
    except KeyError:
        raise BadRecordError(
            f"no config.corpus.field={field!r}; there is: {name_list(_names(record))}"
        ) from None
    try:
        return text_in(value, decode_errors)
    except TypeError as error:
        raise BadRecordError(f"config.corpus.field={field!r} holds {error}, not text") from None


def find(record: Any, field: str) -> Any:
    """The value of a field; None where a record on the way is null.

    Raises:
      KeyError: there is none.
    """
    if record is None:
        return None
    if isinstance(record, list):
        return [find(item, field) for item in record]
    if not isinstance(record, Mapping):
        raise KeyError(field)
    if field in record:
        return record[field]
    name, dot, rest = field.partition(".")
    if not dot:
        raise KeyError(field)
    return find(record[name], rest)


def text_in(value: Any, decode_errors: str) -> list[str]:
    """The paragraphs of a string, of bytes, or of a list of them; none of null.

    Raises:
      TypeError: it is something else; the message is its type.
    """
    if isinstance(value, str):
        return paragraphs(value)
    if value is None:
        return []
    if isinstance(value, bytes):
        return paragraphs(value.decode("utf-8", decode_errors))
    if isinstance(value, list):
        return [text for item in value for text in text_in(item, decode_errors)]
    raise TypeError(type(value).__name__)


def name_list(names: Iterable[str]) -> str:
    """Names for a message, cut off when there are many."""
    text = shown(", ".join(names)) or "none"
    return text if len(text) <= _NAMES_SHOWN else f"{text[:_NAMES_SHOWN]}..."


def _names(record: Any) -> list[str]:
    """The fields of a record, those within a field by `name.inner`; the type of what is none."""
    if not isinstance(record, Mapping):
        return [type(record).__name__]
    names = []
    for name, value in record.items():
        inner = list(value) if isinstance(value, Mapping) else []
        names += [f"{name}.{part}" for part in inner] or [name]
    return names
