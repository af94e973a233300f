"""Workdirs in a bucket of Google Cloud Storage, `gs://bucket/run`.

Orbax reads and writes the checkpoints in the bucket itself. The other files of a run are small:
a process works on a local copy of them, a temporary directory, and the first process uploads what
changed. So all code but this module and the checkpoints' sees an ordinary directory.
"""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from etils import epath
from etils.epath import backend, gpath

from bert_jax.common.errors import UserError
from bert_jax.common.inside import inside

CHECKPOINTS = "checkpoints"  # stay in the bucket
COMMITTED = "commit_success.txt"  # Orbax writes it last into a checkpoint in a bucket
_URL = ".url"  # in a local copy: what it is a copy of

_uploaded: dict[Path, tuple[int, int]] = {}  # time and size of each file when it was uploaded


@epath.register_path_cls("gs://")
class BucketPath(gpath.PosixGPath):
    """An object or a prefix in a bucket, through gcsfs.

    The class of etils uses TensorFlow where it is installed, which takes seconds to import;
    there is no public way to choose, hence the private `_backend`.
    """

    @property
    def _backend(self) -> backend.Backend:
        _file_system()
        return backend.fsspec_backend


AnyPath = Path | BucketPath


def opened(workdir: str) -> Path:
    """The directory to work in: `workdir` itself or, for gs://, a new local copy of it.

    Raises:
      UserError: gcsfs is not installed.
    """
    if not workdir.startswith("gs://"):
        return Path(workdir)
    _file_system()
    copy = Path(tempfile.mkdtemp(prefix="bert_jax-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    (copy / _URL).write_text(workdir.rstrip("/"))
    pull(copy)
    return copy


def home(directory: Path) -> AnyPath:
    """Where checkpoints and lock are: in the bucket that `directory` is a copy of, or there."""
    try:
        return BucketPath((directory / _URL).read_text())
    except FileNotFoundError:
        return directory


def pull(directory: Path) -> None:
    """Download the files of the run, except checkpoints, if `directory` is a copy of a bucket.

    Raises:
      UserError: an object's name leads out of the directory.
    """
    there = home(directory)
    if isinstance(there, Path):
        return
    for path in files_below(there):
        name = _name_below(path, there)
        if name.split("/")[0] != CHECKPOINTS:
            copy = inside(directory, name, str(there))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            _uploaded[copy] = _state(copy)


def push(directory: Path) -> None:
    """Upload the files that changed since the last time, if `directory` is a copy of a bucket."""
    there = home(directory)
    if isinstance(there, Path):
        return
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name != _URL and _uploaded.get(path) != _state(path):
            state = _state(path)
            (there / name).write_bytes(path.read_bytes())
            _uploaded[path] = state


def files_below(directory: AnyPath) -> list[AnyPath]:
    """All files at any depth, sorted."""
    if isinstance(directory, Path):
        return sorted(path for path in directory.rglob("*") if path.is_file())
    return sorted(BucketPath(f"gs://{name}") for name in _file_system().find(os.fspath(directory)))


def size_of(path: AnyPath) -> int:
    """Bytes in a file.

    Raises:
      FileNotFoundError: it is not there.
    """
    return path.stat().st_size if isinstance(path, Path) else path.stat().length


def remove_tree(directory: AnyPath) -> None:
    """Remove a directory and all that is in it, if it is there."""
    if isinstance(directory, Path):
        shutil.rmtree(directory, ignore_errors=True)
    else:
        directory.rmtree(missing_ok=True)


def _name_below(path: AnyPath, directory: AnyPath) -> str:
    return os.fspath(path).removeprefix(os.fspath(directory)).lstrip("/")


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.cache
def _file_system() -> Any:
    try:
        import fsspec
        import gcsfs  # noqa: F401
    except ImportError as error:
        raise UserError("a workdir on gs:// needs gcsfs: pip install 'bert_jax[gcs]'") from error
    # Other processes write too, so a listing must not be remembered.
    fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
    fsspec.config.conf.setdefault("gs", {})["use_listings_cache"] = False
    return backend.fsspec_backend.fs("gs://")
