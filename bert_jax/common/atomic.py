"""Directories and files that are there in full or not at all."""

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
    """A directory to write into; takes its name `path` when the block ends well, else it goes.

    Where two write the same at once, as engines that run a task twice do, the first one stays.
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


def write_json(path: Path, values: Any) -> None:
    """Writes or replaces a JSON file in one step."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
