"""`digests.json` of a checkpoint: size and SHA-256 of every file in it.

Orbax keeps no digest of what it writes, and reads a flipped bit of an array without a word.
`digests.json` is written before the checkpoint gets its name, so every complete checkpoint of this
version has one. Its metadata says so (MARK): a missing one is damage, and not an earlier version.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bert_jax.common.bucket import AnyPath, files_below, size_of

FILE = "digests.json"
METADATA = "_CHECKPOINT_METADATA"  # Orbax's; `custom_metadata` in it is the caller's
MARK = {"digests": "sha256"}  # in the custom metadata of a checkpoint that has digests
# What Orbax reads a checkpoint by: all that can be looked for where there are no digests.
_NEEDED = (METADATA, "default/_METADATA", "default/manifest.ocdbt")
_THREADS = 4  # hashing one file takes one core, about 1 GB/s


def write(directory: AnyPath) -> None:
    """Write `digests.json` for all files that are in `directory` now, and sync it to the disk."""
    names = [path.relative_to(directory).as_posix() for path in files_below(directory)]
    names = [name for name in names if name != FILE]
    with ThreadPoolExecutor(_THREADS) as pool:
        facts = list(pool.map(lambda name: _facts(directory / name), names))
    with (directory / FILE).open("wb") as file:
        file.write(_render(dict(zip(names, facts, strict=True))))
        if isinstance(directory, Path):
            file.flush()
            os.fsync(file.fileno())


def has_digests(directory: AnyPath) -> bool:
    """Whether the content of the checkpoint in `directory` can be checked."""
    return (directory / FILE).is_file()


def damage(directory: AnyPath, under: str = "") -> str | None:
    """The first file of the checkpoint that is not as it was saved, and how; None: it is whole.

    Without `digests.json`, in checkpoints of earlier versions, only missing and unreadable files
    are found.

    Args:
      directory: of one checkpoint.
      under: only look at files whose names begin so.

    Raises:
      PermissionError: a file may not be read by this user: that is no damage.
    """
    try:
        listed = _read(directory)
    except FileNotFoundError:
        return _damage_without_digests(directory)
    except ValueError as error:
        return f"{FILE} {error}"
    listed = {name: facts for name, facts in listed.items() if name.startswith(under)}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _difference(directory / name, listed[name]), listed)
        return next(
            (f"{name} {what}" for name, what in zip(listed, found, strict=True) if what), None
        )


def custom_metadata(directory: AnyPath) -> dict[str, Any]:
    """What the caller of Orbax saved with the checkpoint in `directory`."""
    kept = json.loads((directory / METADATA).read_bytes()).get("custom_metadata") or {}
    return {name: value for name, value in kept.items() if name not in MARK}


def _facts(path: AnyPath) -> dict[str, int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _render(files: Mapping[str, Any]) -> bytes:
    """The bytes of `digests.json`; they hold a digest of their own."""
    text = json.dumps(files, indent=1, sort_keys=True)
    own = hashlib.sha256(text.encode()).hexdigest()
    return (json.dumps({"version": 1, "sha256": own, "files": files}, indent=1) + "\n").encode()


def _read(directory: AnyPath) -> dict[str, Any]:
    """The facts of each file.

    Raises:
      FileNotFoundError: there are no digests.
      ValueError: they are damaged.
    """
    content = (directory / FILE).read_bytes()
    try:
        files = json.loads(content)["files"]
        is_as_written = content == _render(files)
    except (ValueError, KeyError, TypeError):
        is_as_written = False
    if not is_as_written:
        raise ValueError("has another content than when it was saved")
    return files


def _difference(path: AnyPath, expected: Mapping[str, Any]) -> str | None:
    try:
        size = size_of(path)
        if size != expected["bytes"]:
            return f"has {size} bytes, and had {expected['bytes']} when it was saved"
        if _facts(path) != expected:
            return "has another content than when it was saved"
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except PermissionError:
        raise
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _damage_without_digests(directory: AnyPath) -> str | None:
    for name in _NEEDED:
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if not size_of(path):
            return f"{name} is empty"
    try:
        metadata = json.loads((directory / METADATA).read_bytes())
        custom = metadata.get("custom_metadata") or {}
    except (ValueError, AttributeError):
        return f"{METADATA} is damaged"
    return f"{FILE} is missing" if custom.items() >= MARK.items() else None
