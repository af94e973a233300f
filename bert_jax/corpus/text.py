"""Text files: paragraphs are lines, a blank line ends a document; plain or compressed."""

import codecs
import dataclasses
import glob
import gzip
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from bert_jax.corpus.cleaning import MAX_DOCUMENT, pieces
from bert_jax.errors import UserError

BLOCK = 1 << 20  # bytes read at once

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open}
_BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")


@dataclasses.dataclass(frozen=True)
class TextPart:
    """The documents of a text file between two byte offsets that lie on document borders."""

    path: str
    start: int
    stop: int

    costly = False

    @property
    def name(self) -> str:
        return self.path

    @property
    def size(self) -> int:
        return self.stop - self.start

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: the file is not UTF-8 text.
        """
        with open(self.path, "rb") as file:
            file.seek(self.start)
            yield from documents(_blocks(file, self.size), self.path, self.start)


@dataclasses.dataclass(frozen=True)
class CompressedPart:
    """All documents of a compressed text file; such files cannot be entered in the middle."""

    path: str
    size: int

    costly = False

    @property
    def name(self) -> str:
        return self.path

    def documents(self) -> Iterator[list[str]]:
        """Raises:
        UserError: the archive is damaged, or its content is not UTF-8 text.
        """
        with _OPENERS[Path(self.path).suffix](self.path, "rb") as file:
            try:
                yield from documents(_blocks(file), self.path)
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                raise UserError(
                    f"{self.path} is damaged or cut off ({error}); fetch it again, or leave it "
                    "out of config.corpus.source"
                ) from error


def list_parts(location: str) -> list[TextPart | CompressedPart]:
    """The parts of all files that match the glob pattern `location`, sorted by path.

    Raises:
      UserError: no file matches, or all of them are empty.
    """
    files = find_files(location)
    total = sum(path.stat().st_size for path in files)
    parts: list[TextPart | CompressedPart] = []
    for path in files:
        if path.suffix in _OPENERS:
            parts.append(CompressedPart(str(path), path.stat().st_size))
        else:
            borders = document_borders(path, part_bytes(total))
            parts += [
                TextPart(str(path), start, stop) for start, stop in itertools.pairwise(borders)
            ]
    return parts


def find_files(location: str) -> list[Path]:
    """The files of a glob pattern, or all files below a directory; sorted, none of them empty."""
    if Path(location).is_dir():
        location = f"{location}/**"
    paths = sorted(Path(path) for path in glob.glob(location, recursive=True))
    files = [path for path in paths if path.is_file()]
    if not location or not files:
        raise UserError(f"config.corpus.source: no file matches {location!r}")
    filled = [path for path in files if path.stat().st_size > 0]
    if not filled:
        raise UserError(f"config.corpus.source: every file that matches {location!r} is empty")
    return filled


def part_bytes(total: int) -> int:
    """Bytes of a part: enough parts to keep workers busy, few enough to map them all at once."""
    return min(max(total // 64, 4 << 20), 256 << 20)


def document_borders(path: Path, target: int) -> list[int]:
    """Byte offsets [0, ..., size] that cut a file between documents, about `target` apart."""
    size = path.stat().st_size
    count = -(-size // target)
    borders = [0]
    with path.open("rb") as file:
        for index in range(1, count):
            wanted = max(size * index // count, borders[-1])
            border = _next_border(file, wanted, size)
            if borders[-1] < border < size:
                borders.append(border)
    return [*borders, size]


def _next_border(file: BufferedIOBase, offset: int, size: int) -> int:
    """Offset after the first blank line at or after `offset`; `size` when there is none."""
    file.seek(offset)
    tail = b""
    while block := file.read(BLOCK):
        if match := _BLANK_LINE.search(tail + block):
            return offset - len(tail) + match.end()
        offset += len(block)
        tail = block[-256:]  # a blank line of more than 256 spaces is not worth finding
    return size


def _blocks(file: BufferedIOBase, size: int | None = None) -> Iterator[bytes]:
    """The next `size` bytes of a file, all that is left when None, in blocks."""
    left = size if size is not None else -1
    while left and (block := file.read(BLOCK if left < 0 else min(BLOCK, left))):
        left -= len(block) if left > 0 else 0
        yield block


def documents(blocks: Iterator[bytes], name: str, start: int = 0) -> Iterator[list[str]]:
    """Documents of UTF-8 text; `name` and `start`, the offset of the first byte, are for errors."""
    paragraphs: list[str] = []
    length = 0
    for line in _lines(_decoded(blocks, name, start)):
        if line and not line.isspace():
            paragraphs.append(line)
            length += len(line)
        elif paragraphs:
            yield paragraphs
            paragraphs, length = [], 0
        if length > MAX_DOCUMENT:
            yield paragraphs
            paragraphs, length = [], 0
    if paragraphs:
        yield paragraphs


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """Lines without their ends; too long ones in pieces."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield from pieces(line)
        *full, rest = pieces(rest)
        yield from full
    yield rest


def _decoded(blocks: Iterator[bytes], name: str, start: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = start
    for block in blocks:
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            raise _not_utf8(name, offset - pending, error) from error
        if offset == 0:
            text = text.removeprefix("\ufeff")
        offset += len(block)
        yield text
    pending = len(decoder.getstate()[0])
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(name, offset - pending, error) from error


def _not_utf8(name: str, offset: int, error: UnicodeDecodeError) -> UserError:
    byte = error.object[error.start]
    return UserError(
        f"{name} is not UTF-8 text: byte 0x{byte:02x} at offset {offset + error.start}; convert it "
        "(iconv -f ENCODING -t UTF-8), or leave it out of config.corpus.source"
    )
