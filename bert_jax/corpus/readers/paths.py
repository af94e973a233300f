"""Opens files on this machine, or wherever fsspec reads: gs://, s3:// and others.

Remote files are read in blocks, as they are needed; they are never copied as a whole.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

from bert_jax.common.errors import UserError

_REMOTE_BLOCK = 4 << 20  # bytes of a remote file fetched at once
_PACKAGES = {"s3": "bert_jax[s3]", "s3a": "bert_jax[s3]", "gs": "bert_jax[gcs]"}
_SCHEME = re.compile(r"[A-Za-z][\w+.:-]*://")


def is_remote(path: str) -> bool:
    """Whether a path begins with its file system, as `s3://bucket/name` does."""
    return _SCHEME.match(path) is not None


def shown(path: str) -> str:
    """A path for messages: bytes that are not UTF-8 and control characters are escaped."""
    return path if path.isprintable() else "".join(map(_shown_character, path))


def _shown_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else ascii(character)[1:-1]


def open_binary(path: str) -> io.BufferedReader:
    """A file of any file system, to read and to seek in.

    Raises:
      UserError: it cannot be opened; while reading a remote file, that it cannot be read.
    """
    if not is_remote(path):
        try:
            return open(path, "rb")
        except OSError as error:
            raise unreadable(path, error) from error
    with one_message(path):
        system, name = file_system(path)
        file = system.open(name, "rb", block_size=_REMOTE_BLOCK, cache_type="readahead")
    return io.BufferedReader(_RemoteFile(file, path), 1 << 20)


def unreadable(path: str, error: OSError) -> UserError:
    """The message for a local file or directory that cannot be read."""
    return UserError(
        f"{shown(path)} cannot be read ({error.strerror or error}); put it back or allow it to be "
        "read, or leave it out of config.corpus.source, and run the same command again"
    )


def file_system(path: str) -> tuple[Any, str]:
    """The file system of a remote path, and what the path is called there."""
    from fsspec.core import url_to_fs

    return url_to_fs(path)


@contextlib.contextmanager
def one_message(path: str) -> Iterator[None]:
    """Turns whatever a remote file system raises into one line.

    Raises:
      UserError: anything was raised.
    """
    try:
        yield
    except ImportError as error:
        package = _PACKAGES.get(path.partition("://")[0])
        fix = f": pip install '{package}'" if package else ""
        raise UserError(f"{path} needs a package that is missing ({error}){fix}") from error
    except Exception as error:  # every file system raises different errors
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
        with one_message(self._path):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
