"""JSON lines, plain or compressed: an object a line, a document in one of its fields."""

import dataclasses
import itertools
import json
from collections.abc import Iterator

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.base import BadRecordError, refused
from bert_jax.corpus.readers.fields import text_of
from bert_jax.corpus.readers.files import FilePart, file_ranges
from bert_jax.corpus.readers.lines import RECORD_LINE, lines_of_bytes
from bert_jax.corpus.readers.paths import shown
from bert_jax.corpus.readers.text import not_utf8
from bert_jax.corpus.settings import Reading


@dataclasses.dataclass(frozen=True)
class JsonPart(FilePart):
    """The documents of a range of a file whose ends are ends of lines."""

    def documents(self) -> Iterator[list[str] | None]:
        """Raises:
        UserError: the file is damaged, no JSON lines at all, or has a bad record and they are
          refused.
        """
        blocks = self.range.blocks()
        if self.range.start == 0 and (first := next(blocks, b"")):
            if _is_array(first):
                raise UserError(
                    f"{shown(self.name)} is one JSON array, not JSON lines: write an object a line "
                    "(jq -c '.[]' FILE > NEW.jsonl), or leave it out of config.corpus.source"
                )
            blocks = itertools.chain([first], blocks)
        for offset, line in lines_of_bytes(blocks, self.range.start):
            if line and not line.isspace():
                try:
                    yield self._document(line, offset)
                except BadRecordError as error:
                    if self.reading.bad_records == "refuse":
                        line_number = self.range.line_number(offset)
                        raise refused(f"{shown(self.name)}, line {line_number}", error) from error
                    yield None

    def _document(self, line: bytes, offset: int) -> list[str]:
        errors = self.reading.decode_errors
        try:
            entry = json.loads(line.decode("utf-8-sig", errors))
            return text_of(entry, self.reading.field, errors)
        except UnicodeDecodeError as error:
            raise not_utf8(self.name, offset, error) from error
        except json.JSONDecodeError as error:
            reason = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
            raise BadRecordError(f"no JSON ({reason}), an object a line is expected") from error
        except ValueError as error:  # a number of thousands of digits
            raise BadRecordError(f"no JSON ({error})") from error
        except RecursionError as error:
            raise BadRecordError("JSON that is nested too deep to be read") from error


def list_parts(location: str, reading: Reading) -> list[JsonPart]:
    """The parts of all files of `location`.

    Raises:
      UserError: no file is there.
    """
    return [JsonPart(part, reading) for part in file_ranges(location, RECORD_LINE)]


def _is_array(first: bytes) -> bool:
    """Whether a file that begins with `first` is one JSON array; a line may be one by itself."""
    first = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not first.startswith(b"["):
        return False
    line, _, rest = first.partition(b"\n")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return not rest.lstrip().startswith(b"{")
