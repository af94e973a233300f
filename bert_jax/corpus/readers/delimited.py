"""Tables as text, csv: and tsv:, plain or compressed: a row a document, in one of the columns.

The first row names the columns. Cells of csv: may be quoted and hold several lines; those of tsv:
are taken as they are, as in the files of GLUE (`config.corpus.quoting` says otherwise).
"""

import csv
import dataclasses
from collections import deque
from collections.abc import Iterator

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.base import refused
from bert_jax.corpus.readers.fields import name_list
from bert_jax.corpus.readers.files import FilePart, FileRange, file_ranges
from bert_jax.corpus.readers.lines import RECORD_LINE, paragraphs, split_lines, with_line_feeds
from bert_jax.corpus.readers.paths import shown
from bert_jax.corpus.readers.text import decoded
from bert_jax.corpus.settings import Reading

_DELIMITERS = {"csv": ",;\t|", "tsv": "\t"}  # the first one that gives the column is taken
MAX_CELL = 1 << 26  # characters; a quote that is never closed is noticed there


@dataclasses.dataclass(frozen=True)
class Table:
    """How the rows of a file are written.

    Attributes:
      delimiter: between cells.
      is_quoted: cells may be in double quotes.
      width: cells of a row.
      column: the index of the cell with the text.
    """

    delimiter: str
    is_quoted: bool
    width: int
    column: int


@dataclasses.dataclass(frozen=True)
class TablePart(FilePart):
    """The documents of a range of a file whose ends are ends of rows."""

    table: Table

    def documents(self) -> Iterator[list[str] | None]:
        """Raises:
        UserError: the file is damaged, is not UTF-8 text, or has a bad row and they are refused.
        """
        table = self.table
        rows = _Rows(self.range, self.reading, table.delimiter, table.is_quoted)
        is_header = self.range.start == 0
        for row in rows:
            if isinstance(row, csv.Error):
                reason = f"a row that cannot be read ({row})"
            elif len(row) != table.width:
                reason = f"{len(row)} cells, and the first row has {table.width}"
            else:
                if not is_header:
                    yield paragraphs(row[table.column])
                is_header = False
                continue
            if self.reading.bad_records == "refuse":
                raise self._refused(rows.line, reason)
            yield None

    def _refused(self, line: int, reason: str) -> UserError:
        if self.range.start:
            line += self.range.line_number(self.range.start) - 1
        if self.table.is_quoted:
            fix = "if cells are not in double quotes, set config.corpus.quoting='off'"
        else:
            fix = "if cells are in double quotes, set config.corpus.quoting='on'"
        return refused(f"{shown(self.name)}, line {line}", f"{reason}; {fix}")


def list_csv_parts(location: str, reading: Reading) -> list[TablePart]:
    """The parts of all files of `location`.

    Raises:
      UserError: no file is there, or one lacks the column.
    """
    return _list_parts("csv", location, reading, reading.quoting != "off")


def list_tsv_parts(location: str, reading: Reading) -> list[TablePart]:
    """As `list_csv_parts`, for cells separated by tabs."""
    return _list_parts("tsv", location, reading, reading.quoting == "on")


def _list_parts(kind: str, location: str, reading: Reading, is_quoted: bool) -> list[TablePart]:
    # A quoted cell may contain line ends, so row ends are unknown without reading the whole file.
    ranges = file_ranges(location, None if is_quoted else RECORD_LINE)
    tables: dict[str, Table] = {}
    for part in ranges:
        if part.path not in tables:
            tables[part.path] = _table_of(part, reading, kind, is_quoted)
    return [TablePart(part, reading, tables[part.path]) for part in ranges]


def _table_of(file: FileRange, reading: Reading, kind: str, is_quoted: bool) -> Table:
    """The table that the first row of a file describes."""
    names: list[str] = []
    unread: csv.Error | None = None
    for delimiter in _DELIMITERS[kind]:
        row = next(iter(_Rows(file, reading, delimiter, is_quoted)), [])
        if isinstance(row, csv.Error):
            unread = row
            continue
        columns = [name.strip() for name in row]
        if (count := columns.count(reading.field)) == 1:
            return Table(delimiter, is_quoted, len(columns), columns.index(reading.field))
        if count:
            raise UserError(
                f"{shown(file.path)} has {count} columns config.corpus.field={reading.field!r}; "
                "give them different names"
            )
        names = max(names, columns, key=len)
    if unread and len(names) < 2:
        raise UserError(
            f"{shown(file.path)}: the first row, which names the columns, cannot be read "
            f"({unread}); fix it, or leave the file out of config.corpus.source"
        )
    raise UserError(
        f"{shown(file.path)} has no column config.corpus.field={reading.field!r} in its first row; "
        f"there is: {name_list(names)}"
    )


class _Rows:
    """The rows of a range of a file, without blank ones; an error for each row that is malformed.

    Attributes:
      line: the number, in the range, of the line in which the last row began.
    """

    def __init__(self, range: FileRange, reading: Reading, delimiter: str, is_quoted: bool):
        texts = decoded(range.blocks(), reading.decode_errors, range.path, range.start)
        self._lines = _Lines(split_lines(with_line_feeds(texts, unicode=False)))
        self._reader = csv.reader(
            self._lines,
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
            strict=True,
        )
        self.line = 1

    def __iter__(self) -> Iterator[list[str] | csv.Error]:
        csv.field_size_limit(MAX_CELL)
        while True:
            try:
                row = next(self._reader, None)
            except csv.Error as error:
                # An extra quote may have swallowed good rows: only the first line is bad.
                self._lines.give_back()
                yield error
            else:
                if row is None:
                    return
                if row:
                    yield row
            self.line += len(self._lines.taken)
            self._lines.taken.clear()


class _Lines:
    """Lines; those after the first of `taken` can be given back, to be read again."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines
        self._again: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        return line

    def give_back(self) -> None:
        self._again.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]
