"""Labelled data: readers by format, and the splits of a task.

To add a format, write a function of (path, DataSettings, labelled) that gives records, and register
it here. `labelled`: whether labels must be there and right; they need not for predictions.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import tfds
from bert_jax.corpus.readers.text import CONVERT
from bert_jax.tasks.data.columns import conll, conllu
from bert_jax.tasks.data.records import DataSettings, Record
from bert_jax.tasks.data.squad import squad
from bert_jax.tasks.data.tables import csv, jsonl, parquet, tsv

FORMATS: dict[str, Callable[[Path, DataSettings, bool], Iterator[Record]]] = {
    "csv": csv,
    "tsv": tsv,
    "jsonl": jsonl,
    "parquet": parquet,
    "conll": conll,
    "conllu": conllu,
    "squad": squad,
}
TFDS = "tfds:"  # tfds:glue/sst2:validation, in place of a file
_SUFFIXES = {"json": "squad", "bio": "conll", "iob": "conll", "txt": "conll", "pq": "parquet"}


def stream(path: str, settings: DataSettings, field: str) -> Iterator[Record]:
    """The records of a file, one by one.

    Args:
      path: of the file, or `tfds:NAME[/CONFIG][:VERSION][:SPLIT]`.
      settings: how it is written.
      field: of the config, or the flag, that named it, for messages.

    Raises:
      UserError: it is missing, or not what its format says.
    """
    if path.startswith(TFDS):
        examples = tfds.labelled(path.removeprefix(TFDS))
        yield from (Record(values, f"{path}, example {i}") for i, values in enumerate(examples))
        return
    name = f"--{field}={path}" if field == "input" else f"config.data.{field}={path}"
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{name}: there is no such file")
    suffix = file.suffix.lower().lstrip(".")
    format = settings.format if settings.format != "auto" else _SUFFIXES.get(suffix, suffix)
    if format not in FORMATS:
        raise UserError(
            f"{name}: its name does not say how it is written; set config.data.format to one of "
            f"{', '.join(FORMATS)}"
        )
    try:
        yield from FORMATS[format](file, settings, field != "input")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: {CONVERT}") from error


def read(path: str, settings: DataSettings, field: str) -> list[Record]:
    """All records of a file, as `stream` gives them.

    Raises:
      UserError: as `stream`; there is none, or an id is there twice.
    """
    records = list(stream(path, settings, field))
    if not records:
        raise UserError(f"config.data.{field}={path} holds no example")
    _expect_distinct_ids(records, path)
    return records


def splits(settings: DataSettings) -> dict[str, list[Record]]:
    """The records of `train`, `validation` and, where a file is given, `test`.

    Without a validation file, a share of the training examples is taken: those whose text's hash is
    low, so that the same texts are held out however the file is ordered or grows.

    Raises:
      UserError: a file cannot be read, or nothing is left of a split.
    """
    if not settings.train:
        raise UserError("config.data.train is empty: name the file with the training examples")
    found = {"train": read(settings.train, settings, "train")}
    if settings.validation:
        found["validation"] = read(settings.validation, settings, "validation")
    else:
        share = settings.validation_fraction
        held = [_share(record, _texts(record, settings)) < share for record in found["train"]]
        found["validation"] = [
            r for r, is_held in zip(found["train"], held, strict=True) if is_held
        ]
        found["train"] = [r for r, is_held in zip(found["train"], held, strict=True) if not is_held]
        if not found["validation"] or not found["train"]:
            raise UserError(
                f"config.data.validation is empty, and a share of "
                f"{settings.validation_fraction} of {settings.train} leaves no example in one of "
                "the splits: name a validation file, or change config.data.validation_fraction"
            )
    if settings.test:
        found["test"] = read(settings.test, settings, "test")
    if settings.limit and len(found["train"]) > settings.limit:
        kept = sorted(found["train"], key=_share)[: settings.limit]
        chosen = {id(record) for record in kept}
        found["train"] = [record for record in found["train"] if id(record) in chosen]
    return found


def _texts(record: Record, settings: DataSettings) -> list[str]:
    """The columns with the text; of a question that with the context, for all questions on it."""
    if "context" in record.values:
        return ["context"]
    names = (settings.text, settings.text_pair, settings.tokens)
    return [name for name in names if name in record.values] or list(record.values)


def _share(record: Record, names: Iterable[str] = ()) -> float:
    """A number in [0, 1) that depends on these columns of a record alone; none: on all."""
    columns = sorted(names or record.values, key=str)
    text = "\x1f".join(f"{key}={record.values[key]}" for key in columns)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _expect_distinct_ids(records: list[Record], path: str) -> None:
    seen: dict[str, str] = {}
    for record in records:
        name = record.values.get("id")
        if name is None:
            return
        if str(name) in seen:
            raise UserError(
                f"{path}: the id {name!r} is there twice ({seen[str(name)]} and {record.where}): "
                "give each example an id of its own, or rename the column"
            )
        seen[str(name)] = record.where


__all__ = ["FORMATS", "TFDS", "DataSettings", "Record", "read", "splits", "stream"]
