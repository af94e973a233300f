"""Configs from files: by path, or by the name of one that comes with bert_jax."""

import copy
import runpy
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common import config_files
from bert_jax.common.errors import UserError


def load_config(path: str, arg: str = "") -> ConfigDict:
    """The config that the file `path` returns, as with `--config=path:arg`.

    Without an argument none is passed, so that `get_config` need not take one.
    """
    return runpy.run_path(path)["get_config"](*filter(None, [arg]))


def named(name: str, **fields: Any) -> ConfigDict:
    """A config by name (`quickstart`, `bert:tiny`) or file, with fields changed.

    Args:
      name: as the flag `--config` takes it.
      fields: top-level ones by keyword, others as `**{"model.hidden_size": 64}`.

    Raises:
      UserError: there is no such config, or no such field.
    """
    file, _, arg = name.partition(":")
    path = config_files.find(file)
    if not path.is_file():
        names = config_files.names() + config_files.names(config_files.FINETUNINGS)
        raise UserError(f"there is no config {name!r}: there are {', '.join(names)}")
    return changed(load_config(str(path), arg), fields)


def changed(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """A copy of a config with other values, by name (`optimizer.b2`).

    Raises:
      UserError: a field does not exist, or its value has another type.
    """
    config = copy.deepcopy(config)
    for name, value in fields.items():
        group, _, last = name.rpartition(".")
        try:
            (config[group] if group else config)[last] = value
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(f"config field {name!r}: {error}") from error
    return config
