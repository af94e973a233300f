"""JSON lines, plain or compressed: an object a line, a document in one of its fields."""

import dataclasses
import json
from collections.abc import Iterator

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.files import LINE_END, FileRange, file_ranges
from bert_jax.corpus.readers.text import not_utf8
from bert_jax.corpus.settings import Reading


@dataclasses.dataclass(frozen=True)
class JsonPart:
    """The documents of a range of a file whose ends are ends of lines."""

    range: FileRange
    reading: Reading

    costly = False
    in_sentences = False

    @property
    def name(self) -> str:
        return self.range.path

    @property
    def size(self) -> int:
        return self.range.size

    @property
    def file_bytes(self) -> int:
        return self.range.file_bytes

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: the file is damaged, a line is no JSON object, or lacks the field.
        """
        for offset, line in self.range.lines():
            if line and not line.isspace():
                text = self._text(line, offset)
                yield text.split("\n") if text else []

    def _text(self, line: bytes, offset: int) -> str | None:
        place = f"{self.name}, the line at offset {offset}"
        try:
            entry = json.loads(line.decode("utf-8-sig", self.reading.decode_errors))
        except UnicodeDecodeError as error:
            raise not_utf8(self.name, offset, error) from error
        except ValueError as error:
            raise UserError(f"{place}: no JSON ({error}); jsonl: wants an object a line") from error
        field = self.reading.field
        if not isinstance(entry, dict) or field not in entry:
            there = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
            raise UserError(f"{place} has no config.corpus.field={field!r}; there is: {there}")
        text = entry[field]
        if text is not None and not isinstance(text, str):
            raise UserError(
                f"{place}: config.corpus.field={field!r} holds {type(text).__name__}, not text"
            )
        return text


def list_parts(location: str, reading: Reading) -> list[JsonPart]:
    """The parts of all files of `location`.

    Raises:
      UserError: no file is there.
    """
    return [JsonPart(part, reading) for part in file_ranges(location, LINE_END)]
