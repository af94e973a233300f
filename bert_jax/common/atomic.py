"""Writes files and directories atomically: complete or not at all."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def finished_directory(path: Path) -> Iterator[Path]:
    """A directory to write into; renamed to `path` when the block succeeds, else removed.

    If two processes write the same directory at the same time, as engines that run a task twice
    do, the first one is kept.
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # a full disk needs the space
        raise
    try:
        unfinished.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(unfinished)


@contextlib.contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A file to write; it replaces `path` when the block succeeds, and is removed otherwise."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # a full disk needs the space
        raise


def write_text(path: Path, text: str) -> None:
    """Writes or replaces a UTF-8 file: a reader finds all of `text` or what was there before."""
    with finished_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes or replaces a JSON file, as `write_text` does."""
    write_text(path, json.dumps(values, indent=1) + "\n")
