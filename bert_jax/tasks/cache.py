"""The tokenized rows of a split, kept in a file: text is tokenized once, whatever its length."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.tasks.rows import Rows


def cached(directory: Path, key: dict[str, Any], make: Callable[[], Rows]) -> Rows:
    """The rows under `key`, from the file that an earlier call wrote, or made now.

    Args:
      directory: of the files.
      key: everything that the rows depend on, as JSON values.
      make: makes them.
    """
    text = json.dumps(key, sort_keys=True, default=str)
    path = directory / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"
    if path.is_file():
        return _read(path)
    rows = make()
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        arrays: dict[str, Any] = _arrays(rows)
        np.savez(file, **arrays)
    os.replace(unfinished, path)
    return rows


def file_digest(path: str) -> str:
    """A hash of a file's content; of no file, its name."""
    if not Path(path).is_file():
        return path
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _arrays(rows: Rows) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, dict):
            arrays |= {f"{field.name}.{name}": array for name, array in value.items()}
        else:
            arrays[field.name] = np.asarray(value)
    return arrays


def _read(path: Path) -> Rows:
    fields: dict[str, Any] = {"of_unit": {}, "of_token": {}}
    with np.load(path) as arrays:
        for name, array in arrays.items():
            group, _, inner = name.partition(".")
            if inner:
                fields[group][inner] = array
            else:
                fields[name] = array
    return Rows(**fields | {"group": int(fields["group"])})
