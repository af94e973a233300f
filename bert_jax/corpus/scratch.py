"""The directory of an unfinished build: `<store>.partial`, which is renamed when all is written.

The result of each part appears there in one step, so a build that was killed continues with the
parts that are finished, if it would make the same store of the same files.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bert_jax.common.atomic import write_json
from bert_jax.common.errors import UserError
from bert_jax.common.lock import exclusive
from bert_jax.corpus.readers.paths import is_remote
from bert_jax.corpus.settings import Settings
from bert_jax.corpus.sources import Bundle
from bert_jax.corpus.store import FORMAT_VERSION, MANIFEST

_PLAN = "plan.json"
_WORK_VERSION = 2  # of the files in `work`, which never enter a store

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file grew larger than this process may write (ulimit -f)",
}


@contextlib.contextmanager
def building(directory: Path) -> Iterator[None]:
    """Holds the lock of the store `directory` during the block, and reports a full disk.

    Raises:
      UserError: another process is building it, or the disk is full.
    """
    lock = directory.with_name(directory.name + ".lock")
    refusal = f"another process is preparing the token store {directory}; wait for it"
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(lock, refusal):
            yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f"{_FULL[error.errno]}: the token store {directory} could not be written; fix that "
            "and start again (finished parts are kept), or give another config.corpus.directory"
        ) from error


def scratch_of(directory: Path, settings: Settings, bundles: Sequence[Bundle]) -> Path:
    """The scratch directory of the store `directory`, with a directory `work` in it.

    It holds the finished parts of an earlier build with the same settings and files, if any.
    """
    plan = {
        "format_version": FORMAT_VERSION,
        "work_version": _WORK_VERSION,
        "settings": settings.deciding_bytes(),
        "bundles": hashlib.sha256(repr([bundles, _times(bundles)]).encode()).hexdigest(),
    }
    scratch = directory.with_name(directory.name + ".partial")
    scratch.mkdir(exist_ok=True)
    plan_file = scratch / _PLAN
    if not plan_file.is_file() or json.loads(plan_file.read_text()) != plan:
        plan_file.unlink(missing_ok=True)  # before the parts that it describes
        for path in scratch.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        (scratch / "lock").unlink(missing_ok=True)  # older versions had theirs here
        write_json(plan_file, plan)
    for unfinished in scratch.glob("**/*.tmp"):  # of a build that was killed
        shutil.rmtree(unfinished, ignore_errors=True)
    (scratch / "work").mkdir(exist_ok=True)
    return scratch


@contextlib.contextmanager
def refusals_named(scratch: Path) -> Iterator[None]:
    """If a build is refused in the block: says what stays of it, or removes what is of no use."""
    try:
        yield
    except UserError:
        if any((scratch / "work").iterdir()):
            print(
                f"note: {scratch} keeps the parts that are finished; the next build of this store "
                "goes on from them if it has the same settings and files, else it removes them",
                file=sys.stderr,
                flush=True,
            )
        else:
            shutil.rmtree(scratch)
        raise


def commit(scratch: Path, directory: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, and renames the finished `scratch` to `directory`."""
    write_json(scratch / MANIFEST, manifest)
    (scratch / _PLAN).unlink()  # first: a half-deleted build must not be continued
    shutil.rmtree(scratch / "work")
    os.replace(scratch, directory)


def _times(bundles: Sequence[Bundle]) -> list[int]:
    """When each local file was last modified, in ns: a changed file may have the same size."""
    names = {part.name: part.file_bytes for bundle in bundles for part in bundle.parts}
    return [
        os.stat(name).st_mtime_ns
        for name, file_bytes in names.items()
        if file_bytes is not None and not is_remote(name)
    ]
