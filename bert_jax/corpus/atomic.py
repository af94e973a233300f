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
    """A directory to write into, which takes its name `path` when the block ends well.

    Where two write the same at once, as engines that run a task twice do, the first one stays.
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    unfinished.mkdir(parents=True)
    yield unfinished
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
