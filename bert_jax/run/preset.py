"""`preset.json` of a run: the config file that it began with, as it was without the flags."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bert_jax.common.atomic import write_json

FILE = "preset.json"


class Preset(NamedTuple):
    """A config file.

    Attributes:
      name: as the command line names it: `configs/bert.py:tiny`.
      config: what it returns, before flags change it.
    """

    name: str
    config: ConfigDict


def write(workdir: Path, preset: Preset | None) -> None:
    """Keep a run's preset; nothing if it has none."""
    if preset is not None:
        write_json(workdir / FILE, {"name": preset.name, "values": preset.config.to_dict()})


def read(workdir: Path) -> dict[str, Any] | None:
    """`name` and `values` of a run's preset; None if it has none, or it cannot be read."""
    try:
        return json.loads((workdir / FILE).read_text())
    except (OSError, ValueError):
        return None
