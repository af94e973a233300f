"""The files of a source: finding them, reading them, cutting them into ranges."""

import dataclasses
import glob
import gzip
import io
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from bert_jax.errors import UserError

BLOCK = 1 << 20  # bytes read at once

BLANK_LINE = re.compile(rb"\n[ \t\r]*\n")
LINE_END = re.compile(rb"\n")


def _open_zstd(path: str, mode: str) -> BufferedIOBase:
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(path, compression="zstd"), BLOCK)


_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".zst": _open_zstd}


@dataclasses.dataclass(frozen=True)
class FileRange:
    """The bytes of a file from `start` to `stop`; of a compressed one always all."""

    path: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.stop - self.start

    def blocks(self) -> Iterator[bytes]:
        """The bytes, decompressed, in blocks.

        Raises:
          UserError: an archive is damaged.
        """
        if opener := _OPENERS.get(Path(self.path).suffix):
            try:
                with opener(self.path, "rb") as file:
                    while block := file.read(BLOCK):
                        yield block
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                raise UserError(
                    f"{self.path} is damaged or cut off ({error}); fetch it again, or leave it "
                    "out of config.corpus.source"
                ) from error
            return
        with open(self.path, "rb") as file:
            file.seek(self.start)
            left = self.size
            while left and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                yield block

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines without their ends, each with the offset of its first byte."""
        offset = self.start
        unfinished: list[bytes] = []  # pieces of a line that goes on
        for block in self.blocks():
            first, *rest = block.split(b"\n")
            unfinished.append(first)
            for following in rest:
                line = b"".join(unfinished)
                yield offset, line
                offset += len(line) + 1
                unfinished = [following]
        if line := b"".join(unfinished):
            yield offset, line


def file_ranges(location: str, border: re.Pattern[bytes] | None) -> list[FileRange]:
    """All files of `location`, cut after matches of `border` into ranges to be read in parallel.

    Args:
      location: see `find_files`.
      border: where a plain file may be cut; None: nowhere.

    Raises:
      UserError: no file is there, or all are empty.
    """
    files = find_files(location)
    target = range_bytes(sum(path.stat().st_size for path in files))
    ranges = []
    for path in files:
        size = path.stat().st_size
        cuts = [0, size]
        if border and path.suffix not in _OPENERS:
            cuts = find_borders(path, target, border)
        ranges += [FileRange(str(path), *pair) for pair in itertools.pairwise(cuts)]
    return ranges


def find_files(location: str) -> list[Path]:
    """The files of a glob pattern, or all files below a directory; sorted, none of them empty.

    Raises:
      UserError: no file is there, or all are empty.
    """
    pattern = f"{location}/**" if Path(location).is_dir() else location
    paths = sorted(Path(path) for path in glob.glob(pattern, recursive=True))
    files = [path for path in paths if path.is_file()]
    if not location or not files:
        raise UserError(f"config.corpus.source: no file matches {location!r}")
    filled = [path for path in files if path.stat().st_size > 0]
    if not filled:
        raise UserError(f"config.corpus.source: every file that matches {location!r} is empty")
    return filled


def range_bytes(total: int) -> int:
    """Bytes of a range: enough ranges to keep workers busy, few enough to map all their shards."""
    return min(max(total // 64, 4 << 20), 256 << 20)


def find_borders(path: Path, target: int, border: re.Pattern[bytes]) -> list[int]:
    """Byte offsets [0, ..., size] that cut a file after matches of `border`, `target` apart."""
    size = path.stat().st_size
    count = -(-size // target)
    borders = [0]
    with path.open("rb") as file:
        for index in range(1, count):
            wanted = max(size * index // count, borders[-1])
            found = _next_border(file, wanted, size, border)
            if borders[-1] < found < size:
                borders.append(found)
    return [*borders, size]


def _next_border(file: BufferedIOBase, offset: int, size: int, border: re.Pattern[bytes]) -> int:
    file.seek(offset)
    tail = b""
    while block := file.read(BLOCK):
        if match := border.search(tail + block):
            return offset - len(tail) + match.end()
        offset += len(block)
        tail = block[-256:]  # a blank line of more than 256 spaces is not worth finding
    return size
