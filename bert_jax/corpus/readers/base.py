"""What a source of text is to the rest of the corpus: a reader lists parts, a part gives documents.

A new kind of source is one file in this folder with a part and a `list_parts`, and one entry in
`readers.READERS`. What it needs to know beyond its location is a field of `settings.Reading`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from bert_jax.common.errors import UserError
from bert_jax.corpus.settings import Reading


@runtime_checkable
class Part(Protocol):
    """A file of a source, or a piece of one, that can be read by itself, in any process."""

    @property
    def name(self) -> str:
        """The file's path, or what else the manifest lists it as."""

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

    def documents(self) -> Iterator[list[str] | None]:
        """The documents, each a list of paragraphs, not cleaned.

        A record without text gives an empty list, one that `bad_records` says to skip gives None.
        """


@dataclasses.dataclass(frozen=True)
class Reader:
    """A kind of source.

    Attributes:
      usage: how a source of this kind is written in `config.corpus.source`.
      list_parts: location and settings -> parts, in an order that depends on the source alone.
      reads_files: its locations are those of `listing.find_files`.
    """

    usage: str
    list_parts: Callable[[str, Reading], Sequence[Part]]
    reads_files: bool = True


class BadRecordError(Exception):
    """Why one record of a file cannot be read, without its place."""


def refused(place: str, reason: BadRecordError | str) -> UserError:
    """The message for a record that is not skipped.

    Args:
      place: file and line of the record.
      reason: what is wrong with it.
    """
    return UserError(
        f"{place}: {reason}. Fix it, or skip and count such records "
        "(config.corpus.bad_records='skip')"
    )
