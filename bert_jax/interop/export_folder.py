"""Writes the folder of an export in full or not at all; an earlier export is replaced."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bert_jax.common.errors import UserError

MANIFEST = "export.json"  # what an export wrote, so that the next one may replace it


def write_folder(out: Path, write: Callable[[Path], None]) -> None:
    """Write into a temporary folder next to `out`, then rename it to `out`.

    Raises:
      UserError: `out` holds files that no export wrote, or cannot be made.
    """
    _expect_replaceable(out)
    out = out.resolve()
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"--out={out} cannot be made: {error.strerror}") from error
    try:
        write(partial)
        write_json(partial / MANIFEST, {"files": _sizes(partial)})
        if out.exists():
            shutil.rmtree(out)
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _expect_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out={out} is a file: name a new folder")
    present = _sizes(out)
    if not present:
        return
    try:
        written = json.loads((out / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        written = None
    present.pop(MANIFEST, None)
    if written != present:
        raise UserError(
            f"--out={out} holds files that no export wrote, or that were changed since: name a "
            "new folder, or remove it"
        )


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_json(path: Path, values: Any) -> None:
    """Write a file as `transformers` does, with two spaces a level."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
