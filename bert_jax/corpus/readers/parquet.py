"""Parquet files: a row a document, in one of the columns."""

import dataclasses
from collections.abc import Iterator

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.files import range_bytes
from bert_jax.corpus.readers.paths import find_files, open_binary

ROWS = 256  # read at once


@dataclasses.dataclass(frozen=True)
class ParquetPart:
    """The documents of some row groups of a file."""

    path: str
    column: str
    row_groups: tuple[int, ...]
    size: int
    file_bytes: int

    costly = False
    in_sentences = False

    @property
    def name(self) -> str:
        return self.path

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: the file is damaged.
        """
        import pyarrow
        from pyarrow import parquet

        try:
            with open_binary(self.path) as file:
                table = parquet.ParquetFile(file)
                for batch in table.iter_batches(ROWS, self.row_groups, [self.column]):
                    for text in batch.column(0).to_pylist():
                        yield text.split("\n") if text else []
        except (pyarrow.ArrowException, OSError) as error:
            raise _damaged(self.path, error) from error


def list_parts(location: str, column: str) -> list[ParquetPart]:
    """The parts of all files of `location`: row groups up to the size of a range.

    Raises:
      UserError: no file is there, one is damaged, or lacks the column or text in it.
    """
    files = find_files(location)
    target = range_bytes(sum(file.size for file in files))
    parts = []
    for file in files:
        groups: list[int] = []
        size = 0
        for group, group_size in enumerate(_row_group_sizes(file.path, column)):
            groups.append(group)
            size += group_size
            if size >= target:
                parts.append(ParquetPart(file.path, column, tuple(groups), size, file.size))
                groups, size = [], 0
        if groups:
            parts.append(ParquetPart(file.path, column, tuple(groups), size, file.size))
    return parts


def _row_group_sizes(path: str, column: str) -> list[int]:
    """Compressed bytes of the column in each row group."""
    import pyarrow
    from pyarrow import parquet

    try:
        with open_binary(path) as file:
            table = parquet.ParquetFile(file)
            schema, metadata = table.schema_arrow, table.metadata
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if column not in schema.names:
        raise UserError(
            f"{path} has no column config.corpus.field={column!r}; there is: "
            f"{', '.join(schema.names)}"
        )
    kind = schema.field(column).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise UserError(f"{path}: column config.corpus.field={column!r} holds {kind}, not text")
    leaf = [metadata.schema.column(i).path for i in range(metadata.num_columns)].index(column)
    return [
        metadata.row_group(group).column(leaf).total_compressed_size
        for group in range(metadata.num_row_groups)
    ]


def _damaged(path: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(
        f"{path} is no parquet file, or damaged ({reason}); fetch it again, or leave it out of "
        "config.corpus.source"
    )
