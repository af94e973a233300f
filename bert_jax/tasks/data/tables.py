"""Tables: a row an example. csv, tsv (as GLUE's files, without quoting), JSON lines, parquet.

A csv or tsv file has a header, unless config.data names its columns by number: 0, 1, ...
"""

import csv as csv_library
import json
from collections.abc import Iterator
from pathlib import Path

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.delimited import MAX_CELL
from bert_jax.tasks.data.records import DataSettings, Record


def csv(path: Path, settings: DataSettings, labelled: bool) -> Iterator[Record]:
    """Comma-separated values; cells may be quoted and hold several lines."""
    del labelled
    csv_library.field_size_limit(MAX_CELL)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv_library.reader(file, strict=True)
        try:
            yield from _table(path, ((rows.line_num, row) for row in rows if row), settings)
        except csv_library.Error as error:
            raise UserError(
                f"{path}, line {rows.line_num}: a row that cannot be read ({error}): fix it (a "
                "quote that is never closed?), or name a .tsv, whose cells are not quoted"
            ) from error


def tsv(path: Path, settings: DataSettings, labelled: bool) -> Iterator[Record]:
    """Tab-separated values, taken as they are."""
    del labelled
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, start=1))
        rows = ((number, line.split("\t")) for number, line in lines if line)
        yield from _table(path, rows, settings)


def jsonl(path: Path, settings: DataSettings, labelled: bool) -> Iterator[Record]:
    """JSON lines: an object a line."""
    del settings, labelled
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                values = json.loads(line)
            except ValueError as error:
                raise UserError(f"{where} is no JSON ({error}): write an object a line") from error
            if not isinstance(values, dict):
                raise UserError(f"{where} is no JSON object: write an object a line")
            yield Record(values, where)


def parquet(path: Path, settings: DataSettings, labelled: bool) -> Iterator[Record]:
    """A parquet file."""
    del settings, labelled
    from pyarrow import ArrowInvalid
    from pyarrow import parquet as reader

    try:
        file = reader.ParquetFile(path)
    except ArrowInvalid as error:
        raise UserError(f"{path} is no parquet file: {error}") from error
    number = 0
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            yield Record(row, f"{path}, row {number}")
            number += 1


def _table(
    path: Path, rows: Iterator[tuple[int, list[str]]], settings: DataSettings
) -> Iterator[Record]:
    names: list[str] | None = None
    columns = (settings.text, settings.text_pair, settings.label, settings.text_negative)
    for number, row in rows:
        if names is None:
            named = [name for name in columns if name]
            if named and all(name.isdigit() for name in named):
                names = [str(index) for index in range(len(row))]
            else:
                names = row
                continue
        if len(row) != len(names):
            raise UserError(
                f"{path}, line {number} has {len(row)} cells, and the first line has {len(names)}: "
                "fix the line (a tab or an unquoted comma in a text?)"
            )
        yield Record(dict(zip(names, row, strict=True)), f"{path}, line {number}")
