"""Parses `config.corpus.source` and lists its parts, which can be read independently.

The parts of a source are a function of the source alone, so that any number of workers, on any
engine, makes the same shards of them.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import READERS, files
from bert_jax.corpus.readers.base import Part
from bert_jax.corpus.readers.listing import list_files
from bert_jax.corpus.readers.paths import is_remote, shown
from bert_jax.corpus.settings import Settings, parse_options


@dataclasses.dataclass(frozen=True)
class Source:
    """One source of a mixture.

    Attributes:
      name: what `config.stream.weights` calls it; by default `kind:location`.
      kind: one of `readers.READERS`.
      location: what follows the colon.
      share: of its documents that enter the store; `config.stream.weights` decides how often they
        are seen.
    """

    name: str
    kind: str
    location: str
    share: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.location}"


_BEGIN = r"(?:(?P<name>[\w-]+)=)?(?:(?P<share>[\d.]+)\*)?(?P<kind>{kinds}):"
_SOURCE = re.compile(_BEGIN.format(kinds=r"\w+") + "(?P<location>.*)", re.DOTALL)


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

    A ` + ` that is not followed by a known kind of source is part of a path. Sources may also be a
    list in JSON, as `settings.source_text` writes them.

    Raises:
      UserError: it cannot be parsed.
    """
    sources = [_parse_one(source) for source in _split(mixture)]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"config.corpus.source has two sources with the name {name!r}; give them different "
                "names (name=text:GLOB)"
            )
    return sources


def _split(mixture: str) -> list[str]:
    if mixture.startswith("["):
        try:
            return json.loads(mixture)
        except ValueError as error:
            raise UserError(f"config.corpus.source={mixture!r} is no list ({error})") from error
    begin = re.sub(r"\?P<\w+>", "?:", _BEGIN).format(kinds="|".join(READERS))
    return [source.strip() for source in re.split(rf" \+ (?=\s*{begin})", mixture)]


def _parse_one(source: str) -> Source:
    match = _SOURCE.fullmatch(source)
    if not match or match["kind"] not in READERS:
        raise UserError(
            f"config.corpus.source={source!r} names no known kind of source; write "
            f"{', '.join(reader.usage for reader in READERS.values())}"
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
    """The bundles of all sources, in order.

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
        reading = settings.of(source.name).reading
        parts = READERS[source.kind].list_parts(source.location, reading)
        for name in dict.fromkeys(part.name for part in parts if len(sources) > 1):
            if origin.setdefault(_real(name), source) is not source:
                raise UserError(
                    f"config.corpus.source: {shown(name)} is in {source} and in "
                    f"{origin[_real(name)]}; a file can be in one source only (config.stream."
                    "weights says how often it is seen)"
                )
        bundles += _bundles(source, parts)
    return bundles


def _real(name: str) -> str:
    """The real path of a local file, the same for all links to it; other names are unchanged."""
    return name if is_remote(name) or not os.path.exists(name) else os.path.realpath(name)


def _bundles(source: Source, parts: Sequence[Part]) -> Iterator[Bundle]:
    """Groups neighbouring parts up to the size of a range; every costly part starts a bundle."""
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


def changed_files(mixture: str, stored: list[dict[str, Any]]) -> list[str]:
    """How the files of the sources differ from what a store lists; empty if they are gone."""
    before = {entry["name"]: entry["bytes"] for entry in stored if entry["is_file"]}
    now: dict[str, int] = {}
    for source in parse(mixture):
        if READERS[source.kind].reads_files and source.location != "-":
            try:
                listed = list_files(source.location).files
            except UserError:
                return []
            if not listed:
                return []  # the store needs its sources no more
            now |= {file.path: file.size for file in listed}
    if unlisted := before.keys() - now.keys():
        read = set(map(_real, now))
        for name in unlisted:
            if _real(name) in read:  # by another link; older stores list each link to a file
                now[name] = os.path.getsize(name)
    return [
        f"{shown(name)} had {before.get(name, 'no')} bytes and has {now.get(name, 'none')} now"
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name)
    ]
