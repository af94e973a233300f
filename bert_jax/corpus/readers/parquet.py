"""Parquet files: a row a document, in one of the columns."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.fields import find, name_list, text_in
from bert_jax.corpus.readers.files import range_bytes
from bert_jax.corpus.readers.listing import find_files
from bert_jax.corpus.readers.paths import open_binary, shown
from bert_jax.corpus.readers.text import not_utf8
from bert_jax.corpus.settings import Reading

ROWS = 256  # read at once


@dataclasses.dataclass(frozen=True)
class ParquetPart:
    """The documents of some row groups of a file; `first_row` is the number of their first row."""

    path: str
    row_groups: tuple[int, ...]
    first_row: int
    size: int
    file_bytes: int
    reading: Reading

    costly = False
    in_sentences = False

    @property
    def name(self) -> str:
        return self.path

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: the file is damaged, or text in it is not UTF-8.
        """
        import pyarrow
        from pyarrow import parquet

        row = self.first_row
        try:
            with open_binary(self.path) as file:
                table = parquet.ParquetFile(file)
                column = _Column.of(table.schema_arrow, self.reading.field)
                leaves = column.leaves(table.metadata)
                names = [table.metadata.schema.column(leaf).path for leaf in leaves]
                for batch in table.iter_batches(ROWS, self.row_groups, names):
                    for value in column.values(batch):
                        yield self._document(value, row)
                        row += 1
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error

    def _document(self, value: Any, row: int) -> list[str]:
        try:
            return text_in(value, self.reading.decode_errors)
        except UnicodeDecodeError as error:
            raise not_utf8(f"{self.path}, row {row}", 0, error) from error


@dataclasses.dataclass(frozen=True)
class _Column:
    """Where the text is: a column of the table, and the field inside of it, if it is nested."""

    name: str
    inner: str
    type: Any  # pyarrow.DataType of the text

    @classmethod
    def of(cls, schema: Any, field: str) -> "_Column":
        """The column of `config.corpus.field`.

        Raises:
          KeyError: there is none.
        """
        name, inner = field, ""
        if field not in schema.names:
            name, _, inner = field.partition(".")
            if name not in schema.names or not inner:
                raise KeyError(field)
        from bert_jax.corpus.readers.arrow_types import inner_type

        return cls(name, inner, inner_type(schema.field(name).type, inner))

    def leaves(self, metadata: Any) -> list[int]:
        """Numbers of the columns, as the file stores them, that have to be read."""
        paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
        below = [
            index
            for index, path in enumerate(paths)
            if path == self.name or path.startswith(f"{self.name}.")
        ]
        # A list adds names to the path: `notes.list.element.text`.
        wanted = self.inner.split(".") if self.inner else []
        inner = [index for index in below if _in_order(wanted, paths[index].split(".")[1:])]
        return inner or below

    def values(self, batch: Any) -> Iterator[Any]:
        """Text, bytes, None or lists of them, a value a row."""
        array = batch.column(batch.schema.get_field_index(self.name))
        try:
            values = array.to_pylist()
        except UnicodeDecodeError:
            from bert_jax.corpus.readers.arrow_types import as_bytes

            values = array.cast(as_bytes(array.type)).to_pylist()
        return (find(value, self.inner) for value in values) if self.inner else iter(values)


def list_parts(location: str, reading: Reading) -> list[ParquetPart]:
    """The parts of all files of `location`: row groups up to the size of a range.

    Raises:
      UserError: no file is there, one is damaged, or lacks the column or text in it.
    """
    files = find_files(location)
    target = range_bytes(sum(file.size for file in files))
    parts = []
    for file in files:
        groups = _row_groups(file.path, reading.field)
        if not groups:  # it is listed all the same, as empty files of other kinds are
            parts.append(ParquetPart(file.path, (), 0, 0, file.size, reading))
        starts = [0, *itertools.accumulate(rows for rows, _ in groups)]
        gathered: list[int] = []
        size = 0
        for group, (_, group_size) in enumerate(groups):
            gathered.append(group)
            size += group_size
            if size >= target or group == len(groups) - 1:
                first_row = starts[gathered[0]]
                parts.append(
                    ParquetPart(file.path, tuple(gathered), first_row, size, file.size, reading)
                )
                gathered, size = [], 0
    return parts


def _row_groups(path: str, field: str) -> list[tuple[int, int]]:
    """Rows of each row group, and compressed bytes of the text in it."""
    import pyarrow
    from pyarrow import parquet

    from bert_jax.corpus.readers.arrow_types import column_names, is_text

    try:
        with open_binary(path) as file:
            table = parquet.ParquetFile(file)
            schema, metadata = table.schema_arrow, table.metadata
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    try:
        column = _Column.of(schema, field)
    except KeyError:
        raise UserError(
            f"{shown(path)} has no column config.corpus.field={field!r}; there is: "
            f"{name_list(column_names(schema))}"
        ) from None
    if not is_text(column.type):
        raise UserError(
            f"{shown(path)}: column config.corpus.field={field!r} holds {column.type}, not text"
        )
    leaves = column.leaves(metadata)
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    return [
        (group.num_rows, sum(group.column(leaf).total_compressed_size for leaf in leaves))
        for group in groups
    ]


def _in_order(wanted: list[str], path: list[str]) -> bool:
    """Whether all of `wanted` are in `path`, in their order."""
    names = iter(path)
    return all(name in names for name in wanted)


def _damaged(path: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(
        f"{shown(path)} is no parquet file, or damaged ({reason}); fetch it again, or leave it out "
        "of config.corpus.source"
    )
