"""Where text comes from: `kind:location` -> parts that can be read independently of each other.

The parts of a source are a function of the source alone, so that any number of workers, on any
engine, makes the same shards of them.
"""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

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
    def costly(self) -> bool:
        """Reading it again costs more than keeping its cleaned text on disk for a while."""

    def documents(self) -> Iterator[list[str]]:
        """The documents, each a list of paragraphs, neither cleaned nor empty."""


def list_parts(source: str) -> list[Part]:
    """The parts of a source such as `text:/data/*.txt` or `docs:`, in a fixed order.

    Raises:
      UserError: the kind is unknown, or there is nothing at the location.
    """
    kind, colon, location = source.partition(":")
    match kind if colon else "":
        case "text":
            from bert_jax.corpus import text

            return list(text.list_parts(location))
        case "docs":
            from bert_jax.corpus import docstrings

            return list(docstrings.list_parts(location))
    raise UserError(
        f"config.corpus.source={source!r} names no known kind of source; write text:GLOB "
        "(text files) or docs: (documentation of the installed "
        "packages)"
    )


def changed_files(source: str, stored: list[dict[str, Any]]) -> list[str]:
    """How the files of a source differ from what a store lists; nothing once they are gone."""
    kind, _, location = source.partition(":")
    if kind != "text":
        return []
    from bert_jax.corpus import text

    try:
        sizes = {str(path): path.stat().st_size for path in text.find_files(location)}
    except UserError:
        return []  # the store needs its sources no more
    before = {entry["name"]: entry["bytes"] for entry in stored}
    names = sorted(sizes.keys() | before.keys())
    return [
        f"{name} had {before.get(name, 'no')} bytes and has {sizes.get(name, 'none')} now"
        for name in names
        if sizes.get(name) != before.get(name)
    ]
