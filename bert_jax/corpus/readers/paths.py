"""Paths of sources: on this machine, or wherever fsspec reads: gs://, s3:// and others.

Remote files are read in blocks, as they are needed; they are never copied as a whole.
"""

import contextlib
import dataclasses
import glob
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bert_jax.common.errors import UserError

_REMOTE_BLOCK = 4 << 20  # bytes of a remote file fetched at once
_PACKAGES = {"s3": "bert_jax[s3]", "s3a": "bert_jax[s3]", "gs": "bert_jax[gcs]"}


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was listed; `size` in bytes."""

    path: str
    size: int


def is_remote(path: str) -> bool:
    """Whether a path names its file system, as `s3://bucket/name` does."""
    return "://" in path


def find_files(location: str) -> list[SourceFile]:
    """The files of a glob pattern, or all files below a directory; none of them empty.

    They are sorted by the names along their paths, `a/x` before `a-b/x`, here and elsewhere.

    Raises:
      UserError: no file is there, all are empty, or a remote file system cannot be used.
    """
    files = _find_remote(location) if is_remote(location) else _find_local(location)
    if not location or not files:
        raise UserError(f"config.corpus.source: no file matches {location!r}")
    filled = [file for file in files if file.size]
    if not filled:
        raise UserError(f"config.corpus.source: every file that matches {location!r} is empty")
    return sorted(filled, key=lambda file: file.path.split("/"))


def open_binary(path: str) -> io.BufferedReader:
    """A file of any file system, to read and to seek in.

    Raises:
      UserError: it is remote and cannot be opened; later, that it cannot be read.
    """
    if not is_remote(path):
        return open(path, "rb")
    with _one_message(path):
        system, name = _file_system(path)
        file = system.open(name, "rb", block_size=_REMOTE_BLOCK, cache_type="readahead")
    return io.BufferedReader(_RemoteFile(file, path), 1 << 20)


def _find_local(location: str) -> list[SourceFile]:
    pattern = f"{location}/**" if Path(location).is_dir() else location
    paths = map(Path, glob.glob(pattern, recursive=True))
    return [SourceFile(str(path), path.stat().st_size) for path in paths if path.is_file()]


def _find_remote(location: str) -> list[SourceFile]:
    with _one_message(location):
        system, name = _file_system(location)
        system.invalidate_cache()
        find = system.find if system.isdir(name) else system.glob
        try:
            found = find(name, detail=True)
        except FileNotFoundError:  # what some say of a bucket that is not there
            return []
        return [
            SourceFile(system.unstrip_protocol(path), facts["size"])
            for path, facts in found.items()
            if facts["type"] == "file"
        ]


def _file_system(path: str) -> tuple[Any, str]:
    """The file system of a path and what the path is called there."""
    from fsspec.core import url_to_fs

    return url_to_fs(path)


@contextlib.contextmanager
def _one_message(path: str) -> Iterator[None]:
    """Whatever a remote file system raises, the user sees one line."""
    try:
        yield
    except ImportError as error:
        package = _PACKAGES.get(path.partition("://")[0])
        mend = f": pip install '{package}'" if package else ""
        raise UserError(f"{path} needs a package that is missing ({error}){mend}") from error
    except Exception as error:  # each file system has errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} cannot be read ({reason}); see whether the path is right and whether this "
            "machine can reach it with its credentials, and run the same command again: finished "
            "parts are kept"
        ) from error


class _RemoteFile(io.RawIOBase):
    """A file of fsspec whose failures are messages for the user."""

    def __init__(self, file: Any, path: str):
        self._file = file
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        with _one_message(self._path):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
