"""The tokenized rows of a split, kept in a file: text is tokenized once, whatever its length."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from bert_jax.common.atomic import finished_file
from bert_jax.tasks.rows import Rows


def path_of(directory: Path, key: dict[str, Any]) -> Path:
    """The file of the rows under `key`: everything that they depend on, as JSON values."""
    text = json.dumps(key, sort_keys=True, default=str)
    return directory / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


def write(path: Path, rows: Rows) -> None:
    """Write the file, all or nothing, unless it is there."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = _arrays(rows)
    with finished_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)


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


def read(path: Path) -> Rows:
    """The rows that `write` wrote."""
    fields: dict[str, Any] = {"of_unit": {}, "of_token": {}}
    with np.load(path, allow_pickle=False) as arrays:
        for name, array in arrays.items():
            group, _, inner = name.partition(".")
            if inner:
                fields[group][inner] = array
            else:
                fields[name] = array
    return Rows(**fields | {name: int(fields[name]) for name in ("group", "cut")})
