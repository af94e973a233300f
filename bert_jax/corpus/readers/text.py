"""Text files, plain or compressed, or standard input: a line is a paragraph, or a sentence."""

import codecs
import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from bert_jax.common.errors import UserError
from bert_jax.corpus.filters.cleaning import MAX_DOCUMENT, cut_line
from bert_jax.corpus.readers.binary import refuse_binary
from bert_jax.corpus.readers.files import BLOCK, FilePart, file_ranges
from bert_jax.corpus.readers.lines import BLANK_LINE, TEXT_LINE, with_line_feeds
from bert_jax.corpus.readers.paths import shown
from bert_jax.corpus.settings import Reading

# What to do about text that is not UTF-8.
CONVERT = "convert it (text files: iconv -f ENCODING -t UTF-8)"

# What ends a document, and therefore where a file may be cut.
_BORDERS = {"blank_line": BLANK_LINE, "line": TEXT_LINE, "file": None}


@dataclasses.dataclass(frozen=True)
class TextPart(FilePart):
    """The documents of a range of a text file whose ends are borders of documents."""

    @property
    def in_sentences(self) -> bool:
        return self.reading.lines == "sentence"

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: the file is damaged, or is not UTF-8 text.
        """
        return documents(self.range.blocks(), self.reading, self.name, self.range.start)


@dataclasses.dataclass(frozen=True)
class StandardInput:
    """The documents of standard input, which can be read only once.

    Attributes:
      reading: how it is read.
      started: differs between runs, so that no run reuses the results of another one.
    """

    reading: Reading
    started: float

    name = "standard input"
    size = 1  # unknown
    file_bytes = None
    costly = True

    @property
    def in_sentences(self) -> bool:
        return self.reading.lines == "sentence"

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: it is not UTF-8 text.
        """
        first = sys.stdin.buffer.read(BLOCK)
        refuse_binary(self.name, first)
        rest = iter(lambda: sys.stdin.buffer.read(BLOCK), b"")
        return documents(itertools.chain([first], rest), self.reading, self.name)


def list_parts(location: str, reading: Reading) -> list[TextPart] | list[StandardInput]:
    """The parts of all files of `location`; "-" is standard input.

    Raises:
      UserError: no file is there.
    """
    if location == "-":
        return [StandardInput(reading, time.time())]
    return [TextPart(part, reading) for part in file_ranges(location, _BORDERS[reading.documents])]


def documents(
    blocks: Iterator[bytes], reading: Reading, name: str, start: int = 0
) -> Iterator[list[str]]:
    """Documents of UTF-8 text; `name` and `start`, the offset of the first byte, are for errors."""
    paragraphs: list[str] = []
    length = 0
    line_is_blank = True  # so far
    texts = decoded(blocks, reading.decode_errors, name, start)
    for text, ends_line in _line_parts(with_line_feeds(texts)):
        if text and not text.isspace():
            paragraphs.append(text)
            length += len(text)
            line_is_blank = False
        ends_document = length > MAX_DOCUMENT
        if ends_line:
            ends_document |= reading.documents == "line"
            ends_document |= reading.documents == "blank_line" and line_is_blank
            line_is_blank = True
        if ends_document and paragraphs:
            yield paragraphs
            paragraphs, length = [], 0
    if paragraphs:
        yield paragraphs


class _LinePart(NamedTuple):
    text: str
    ends_line: bool


def _line_parts(texts: Iterator[str]) -> Iterator[_LinePart]:
    """Lines without their ends; a long line in parts, of which the last one ends the line."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            *full, last = cut_line(line)
            for part in full:
                yield _LinePart(part, False)
            yield _LinePart(last, True)
        *full, rest = cut_line(rest)
        for part in full:
            yield _LinePart(part, False)
    yield _LinePart(rest, True)


def decoded(blocks: Iterator[bytes], errors: str, name: str, start: int) -> Iterator[str]:
    """UTF-8 text in blocks, without a byte order mark; arguments as for `documents`.

    Raises:
      UserError: it is not UTF-8, and `errors` is "strict".
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    offset = start
    for block in blocks:
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            raise not_utf8(name, offset - pending, error) from error
        if offset == 0:
            text = text.removeprefix("\ufeff")
        offset += len(block)
        yield text
    pending = len(decoder.getstate()[0])
    try:
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise not_utf8(name, offset - pending, error) from error


def not_utf8(name: str, offset: int, error: UnicodeDecodeError) -> UserError:
    """The message for bytes that are not UTF-8; `offset` is that of the decoded bytes."""
    byte = error.object[error.start]
    return UserError(
        f"{shown(name)} is not UTF-8 text: byte 0x{byte:02x} at offset {offset + error.start}; "
        f"{CONVERT}, leave it out of config.corpus.source, or choose config.corpus.invalid_utf8: "
        "replace or drop"
    )
