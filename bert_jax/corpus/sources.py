"""Where text comes from: `kind:location` -> parts that can be read independently of each other.

The parts of a source are a function of the source alone, so that any number of workers, on any
engine, makes the same shards of them.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from bert_jax.corpus.paths import find_files
from bert_jax.corpus.settings import Reading
from bert_jax.errors import UserError


@runtime_checkable
class Part(Protocol):
    """A piece of a source: the unit of work, and the origin of one shard."""

    @property
    def name(self) -> str:
        """What a message calls it."""

    @property
    def size(self) -> int:
        """Bytes to read, as far as known; decides the part's share in the tokenizer's sample."""

    @property
    def file_bytes(self) -> int | None:
        """Size of the file that it is a piece of, if it is of one."""

    @property
    def costly(self) -> bool:
        """Reading it again costs more than keeping its cleaned text on disk for a while."""

    @property
    def in_sentences(self) -> bool:
        """Each paragraph that it gives is one sentence, not to be cut."""

    def documents(self) -> Iterator[list[str]]:
        """The documents, each a list of paragraphs, neither cleaned nor empty."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One source of a mixture.

    Attributes:
      kind: text, jsonl, parquet, tfds or docs.
      location: what follows the colon.
      weight: how often its documents are seen in an epoch: a whole number, or a share below 1 of
        the documents that is used at all.
    """

    kind: str
    location: str
    weight: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.location}"


_KINDS = ("text", "jsonl", "parquet", "tfds", "docs")
_FILE_KINDS = ("text", "jsonl", "parquet")
_SOURCE = re.compile(r"(?:(?P<weight>[\d.]+)\*)?(?P<kind>\w+):(?P<location>.*)")


def parse(mixture: str) -> list[Source]:
    """The sources of `config.corpus.source`: one, or `2*text:a/*.txt + 0.5*jsonl:b.jsonl`.

    Raises:
      UserError: it cannot be read so.
    """
    return [_parse_one(source.strip()) for source in mixture.split(" + ")]


def _parse_one(source: str) -> Source:
    match = _SOURCE.fullmatch(source)
    if not match or match["kind"] not in _KINDS:
        raise UserError(
            f"config.corpus.source={source!r} names no known kind of source; write text:GLOB, "
            "jsonl:GLOB, parquet:GLOB, tfds:NAME[/CONFIG][:SPLIT], or docs: (documentation of the "
            "installed packages)"
        )
    try:
        weight = float(match["weight"] or 1)
    except ValueError:
        weight = 0.0
    if not (0 < weight < 1 or (weight >= 1 and weight == int(weight))):
        raise UserError(
            f"config.corpus.source: the weight of {source!r} must be a whole number (how often its "
            "documents are seen in an epoch) or between 0 and 1 (the share of them to use)"
        )
    return Source(match["kind"], match["location"], weight)


def list_parts(mixture: str, reading: Reading) -> list[tuple[Part, float]]:
    """The parts of all sources of a mixture, in a fixed order, each with the weight of its source.

    Raises:
      UserError: there is nothing at a location, it cannot be read, or a file is in two sources.
    """
    parts: list[tuple[Part, float]] = []
    origin: dict[str, Source] = {}
    for source in parse(mixture):
        for part in _list_parts(source, reading):
            if origin.setdefault(part.name, source) is not source:
                raise UserError(
                    f"config.corpus.source: {part.name} is in {source} and in {origin[part.name]}; "
                    "a file can be in one source only (a weight of 2 makes it count twice)"
                )
            parts.append((part, source.weight))
    return parts


def _list_parts(source: Source, reading: Reading) -> Sequence[Part]:
    match source.kind:
        case "text":
            from bert_jax.corpus import text

            return text.list_parts(source.location, reading)
        case "jsonl":
            from bert_jax.corpus import jsonl

            return jsonl.list_parts(source.location, reading)
        case "parquet":
            from bert_jax.corpus import parquet

            return parquet.list_parts(source.location, reading.field)
        case "tfds":
            from bert_jax.corpus import tfds

            return tfds.list_parts(source.location, reading)
        case _:
            from bert_jax.corpus import docstrings

            return docstrings.list_parts(source.location)


def changed_files(mixture: str, stored: list[dict[str, Any]]) -> list[str]:
    """How the files of the sources differ from what a store lists; nothing once they are gone."""
    before = {entry["name"]: entry["bytes"] for entry in stored if entry["is_file"]}
    now: dict[str, int] = {}
    for source in parse(mixture):
        if source.kind in _FILE_KINDS and source.location != "-":
            try:
                files = find_files(source.location)
            except UserError:
                return []  # the store needs its sources no more
            now |= {file.path: file.size for file in files}
    return [
        f"{name} had {before.get(name, 'no')} bytes and has {now.get(name, 'none')} now"
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name)
    ]
