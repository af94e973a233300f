"""The interface of text sources: a reader lists parts, a part yields documents.

A new kind of source is one file in this folder with a part and a `list_parts`, and one entry in
`readers.READERS`. Options beyond its location are fields of `settings.Reading`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from bert_jax.common.errors import UserError
from bert_jax.corpus.settings import Reading


@runtime_checkable
class Part(Protocol):
    """A file of a source, or a range of one, that can be read independently, in any process."""

    @property
    def name(self) -> str:
        """The file's path, or what else the manifest lists it as."""

    @property
    def size(self) -> int:
        """Bytes to read, as far as known."""

    @property
    def file_bytes(self) -> int | None:
        """Size of the file that it is a range of; None: not of a file."""

    @property
    def costly(self) -> bool:
        """Whether reading it again is slower than keeping its cleaned text on disk until then."""

    @property
    def in_sentences(self) -> bool:
        """Whether each of its paragraphs is one sentence, which must not be split."""

    def documents(self) -> Iterator[list[str] | None]:
        """The documents, each a list of paragraphs, not cleaned.

        A record without text yields an empty list, a bad record that is skipped yields None.
        """


@dataclasses.dataclass(frozen=True)
class Reader:
    """A kind of source.

    Attributes:
      usage: how a source of this kind is written in `config.corpus.source`.
      list_parts: location and settings -> parts, in an order that depends on the source alone.
      reads_files: whether its locations are those of `listing.find_files`.
    """

    usage: str
    list_parts: Callable[[str, Reading], Sequence[Part]]
    reads_files: bool = True


class BadRecordError(Exception):
    """Why a record cannot be read; does not say where it is."""


def refused(where: str, reason: BadRecordError | str) -> UserError:
    """The message for a record that is not skipped.

    Args:
      where: file and line of the record.
      reason: what is wrong with it.
    """
    return UserError(
        f"{where}: {reason}. Fix it, or skip and count such records "
        "(config.corpus.bad_records='skip')"
    )
