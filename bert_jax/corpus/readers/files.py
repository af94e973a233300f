"""Reads the files of a source, and cuts them into ranges."""

import dataclasses
import gzip
import io
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.binary import refuse_binary
from bert_jax.corpus.readers.lines import lines_of_bytes
from bert_jax.corpus.readers.listing import SourceFile, find_files
from bert_jax.corpus.readers.paths import open_binary, shown, unreadable
from bert_jax.corpus.settings import Reading

BLOCK = 1 << 20  # bytes read at once


def _open_zstd(file: io.BufferedReader) -> io.BufferedIOBase:
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(file, compression="zstd"), BLOCK)


_DECOMPRESSORS: dict[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
}


@dataclasses.dataclass(frozen=True)
class FileRange:
    """Bytes `start` to `stop` of a file of `file_bytes`; a compressed file is always whole."""

    path: str
    start: int
    stop: int
    file_bytes: int

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.stop - self.start

    def blocks(self) -> Iterator[bytes]:
        """The bytes, decompressed, in blocks.

        Raises:
          UserError: it is not text, an archive is damaged, or the file cannot be read.
        """
        blocks = self._blocks()
        if self.start == 0 and (first := next(blocks, b"")):
            refuse_binary(shown(self.path), first)
            yield first
        yield from blocks

    def _blocks(self) -> Iterator[bytes]:
        with open_binary(self.path) as file:
            if decompressor := _DECOMPRESSORS.get(PurePath(self.path).suffix):
                try:
                    with decompressor(file) as content:
                        while block := content.read(BLOCK):
                            yield block
                except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                    raise _not_unpacked(self.path, error) from error
                return
            left = self.size
            try:
                file.seek(self.start)
                while left and (block := file.read(min(BLOCK, left))):
                    left -= len(block)
                    yield block
            except OSError as error:
                raise unreadable(self.path, error) from error
            if left:
                raise UserError(
                    f"{shown(self.path)} became shorter while the corpus was prepared; run the "
                    "same command again"
                )

    def line_number(self, offset: int) -> int:
        """The number in the file, from 1, of the line that begins at `offset`.

        Reads the file from its start: for messages only.
        """
        from_start = dataclasses.replace(self, start=0)
        lines = lines_of_bytes(from_start.blocks(), 0)
        return 1 + sum(1 for _ in itertools.takewhile(lambda line: line[0] < offset, lines))


@dataclasses.dataclass(frozen=True)
class FilePart:
    """Base of the parts that are a range of a file."""

    range: FileRange
    reading: Reading

    costly = False

    @property
    def in_sentences(self) -> bool:
        return False

    @property
    def name(self) -> str:
        return self.range.path

    @property
    def size(self) -> int:
        return self.range.size

    @property
    def file_bytes(self) -> int:
        return self.range.file_bytes


def file_ranges(location: str, border: re.Pattern[bytes] | None) -> list[FileRange]:
    """All files of `location`, cut after matches of `border` into ranges to be read in parallel.

    Args:
      location: see `listing.list_files`.
      border: where a plain file may be cut; None: nowhere.

    Raises:
      UserError: no file is there, or all are empty.
    """
    files = find_files(location)
    target = range_bytes(sum(file.size for file in files))
    ranges = []
    for file in files:
        cuts = [0, file.size]
        if border and PurePath(file.path).suffix not in _DECOMPRESSORS:
            cuts = find_borders(file, target, border)
        ranges += [FileRange(file.path, *pair, file.size) for pair in itertools.pairwise(cuts)]
    return ranges


def range_bytes(total: int) -> int:
    """Bytes of a range: enough ranges to keep workers busy, few enough to map all their shards."""
    return min(max(total // 64, 4 << 20), 256 << 20)


def find_borders(file: SourceFile, target: int, border: re.Pattern[bytes]) -> list[int]:
    """Byte offsets [0, ..., size] that cut a file after matches of `border`, `target` apart."""
    size = file.size
    count = -(-size // target)
    if count == 1:
        return [0, size]
    borders = [0]
    with open_binary(file.path) as content:
        for index in range(1, count):
            wanted = max(size * index // count, borders[-1])
            offset = _next_border(content, wanted, size, border)
            if offset >= size:
                break  # there is none after a later offset either
            if borders[-1] < offset:
                borders.append(offset)
    return [*borders, size]


def _next_border(file: io.BufferedReader, offset: int, size: int, border: re.Pattern[bytes]) -> int:
    file.seek(offset)
    tail = b""
    while block := file.read(BLOCK):
        if match := border.search(tail + block):
            return offset - len(tail) + match.end()
        offset += len(block)
        tail = block[-256:]  # a blank line of more than 256 spaces is not worth finding
    return size


def _not_unpacked(path: str, error: Exception) -> UserError:
    """The message for an archive that cannot be unpacked."""
    if isinstance(error, OSError) and error.errno:  # of the disk, not of what is in the file
        return unreadable(path, error)
    if "too much memory" in str(error):  # zstd --long=28 and more
        return UserError(
            f"{shown(path)} was packed with a window of more than 128 MB (zstd --long), which is "
            "not supported: pack it again without (zstd -d --long=31 -c FILE | zstd > NEW.zst)"
        )
    return UserError(
        f"{shown(path)} is damaged or cut off ({error}); fetch it again, or leave it out of "
        "config.corpus.source"
    )
