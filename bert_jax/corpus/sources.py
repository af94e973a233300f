"""Where text comes from: `kind:location` -> parts that can be read independently of each other.

The parts of a source are a function of the source alone, so that any number of workers, on any
engine, makes the same shards of them.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import files
from bert_jax.corpus.readers.paths import find_files
from bert_jax.corpus.settings import Reading, Settings, parse_options


@runtime_checkable
class Part(Protocol):
    """A file of a source, or a piece of one, that can be read by itself."""

    @property
    def name(self) -> str:
        """What a message calls it."""

    @property
    def size(self) -> int:
        """Bytes to read, as far as known."""

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
        """The documents, each a list of paragraphs, not cleaned; none where a record is empty."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One source of a mixture.

    Attributes:
      name: what `config.stream.weights` calls it; by default `kind:location`.
      kind: text, jsonl, parquet, tfds or docs.
      location: what follows the colon.
      share: of its documents, that is used; the stream decides how often they are seen.
    """

    name: str
    kind: str
    location: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.location}"


_KINDS = ("text", "jsonl", "parquet", "tfds", "docs")
_FILE_KINDS = ("text", "jsonl", "parquet")
_SOURCE = re.compile(
    r"(?:(?P<name>[\w-]+)=)?(?:(?P<share>[\d.]+)\*)?(?P<kind>\w+):(?P<location>.*)"
)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Neighbouring parts of a source: the unit of work, and the origin of one shard.

    A part of a large file is alone in it. Small files share one, so that a store of many files has
    few shards, all of which are opened at once.
    """

    source: Source
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes to read, as far as known; decides the share in the tokenizer's sample."""
        return sum(part.size for part in self.parts)

    @property
    def costly(self) -> bool:
        """See `Part.costly`."""
        return any(part.costly for part in self.parts)

    @property
    def in_sentences(self) -> bool:
        """See `Part.in_sentences`."""
        return all(part.in_sentences for part in self.parts)


def parse(mixture: str) -> list[Source]:
    """The sources of `config.corpus.source`: one, or `books=text:a/*.txt + web=0.5*jsonl:b.jsonl`.

    Raises:
      UserError: it cannot be read so.
    """
    sources = [_parse_one(source.strip()) for source in mixture.split(" + ")]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"config.corpus.source has two sources with the name {name!r}; give them different "
                "names (name=text:GLOB)"
            )
    return sources


def _parse_one(source: str) -> Source:
    match = _SOURCE.fullmatch(source)
    if not match or match["kind"] not in _KINDS:
        raise UserError(
            f"config.corpus.source={source!r} names no known kind of source; write text:GLOB, "
            "jsonl:GLOB, parquet:GLOB, tfds:NAME[/CONFIG][:VERSION][:SPLIT], or docs: "
            "(documentation of the installed packages)"
        )
    kind, location = match["kind"], match["location"]
    try:
        share = float(match["share"] or 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(
            f"config.corpus.source: the share of {source!r} must be above 0 and at most 1 (of its "
            "documents, to use); how often they are seen, config.stream.weights says"
        )
    return Source(match["name"] or f"{kind}:{location}", kind, location, share)


def list_bundles(settings: Settings) -> list[Bundle]:
    """What is to be read of all sources of a mixture, in their order.

    Raises:
      UserError: there is nothing at a location, it cannot be read, a file is in two sources, or
        options are given for a source that is not there.
    """
    bundles: list[Bundle] = []
    origin: dict[str, Source] = {}
    sources = parse(settings.source)
    names = [source.name for source in sources]
    for name in parse_options(settings.options):
        if name not in names:
            raise UserError(
                f"config.corpus.options: {name!r} is no source of config.corpus.source; there is: "
                f"{', '.join(names)}"
            )
    for source in sources:
        parts = _list_parts(source, settings.of(source.name).reading)
        for part in parts:
            if origin.setdefault(part.name, source) is not source:
                raise UserError(
                    f"config.corpus.source: {part.name} is in {source} and in {origin[part.name]}; "
                    "a file can be in one source only (config.stream.weights says how often it is "
                    "seen)"
                )
        bundles += _bundles(source, parts)
    return bundles


def _bundles(source: Source, parts: Sequence[Part]) -> Iterator[Bundle]:
    """Gathers neighbours up to the size of a range; costly ones, whose text is kept, stay alone."""
    target = files.range_bytes(sum(part.size for part in parts))
    gathered: list[Part] = []
    size = 0
    for part in parts:
        if gathered and (part.costly or size + part.size > target):
            yield Bundle(source, tuple(gathered))
            gathered, size = [], 0
        gathered.append(part)
        size += part.size
    if gathered:
        yield Bundle(source, tuple(gathered))


def _list_parts(source: Source, reading: Reading) -> Sequence[Part]:
    match source.kind:
        case "text":
            from bert_jax.corpus.readers import text

            return text.list_parts(source.location, reading)
        case "jsonl":
            from bert_jax.corpus.readers import jsonl

            return jsonl.list_parts(source.location, reading)
        case "parquet":
            from bert_jax.corpus.readers import parquet

            return parquet.list_parts(source.location, reading.field)
        case "tfds":
            from bert_jax.corpus.readers import tfds

            return tfds.list_parts(source.location, reading)
        case _:
            from bert_jax.corpus.readers import docstrings

            return docstrings.list_parts(source.location)


def changed_files(mixture: str, stored: list[dict[str, Any]]) -> list[str]:
    """How the files of the sources differ from what a store lists; nothing once they are gone."""
    before = {entry["name"]: entry["bytes"] for entry in stored if entry["is_file"]}
    now: dict[str, int] = {}
    for source in parse(mixture):
        if source.kind in _FILE_KINDS and source.location != "-":
            try:
                found = find_files(source.location)
            except UserError:
                return []  # the store needs its sources no more
            now |= {file.path: file.size for file in found}
    return [
        f"{name} had {before.get(name, 'no')} bytes and has {now.get(name, 'none')} now"
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name)
    ]
