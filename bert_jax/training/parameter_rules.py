"""Rules by parameter name: a list of (regex, value) that must cover every parameter."""

import re
from collections.abc import Sequence
from typing import Any

import jax


def name_of(path: jax.tree_util.KeyPath) -> str:
    """`encoder.layers.0.attention.qkv.kernel` for a path in the parameter tree."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def assign(rules: Sequence[tuple[str, Any]], tree: Any) -> Any:
    """A tree with, for each leaf, the value of the first regex that matches the end of its name.

    Raises:
      ValueError: no regex matches a leaf's name, so that no parameter gets a default unnoticed.
    """

    def value_of(path: jax.tree_util.KeyPath, _: Any) -> Any:
        name = name_of(path)
        for pattern, value in rules:
            if re.search(rf"(^|\.)({pattern})$", name):
                return value
        raise ValueError(f"no rule covers the parameter {name}")

    return jax.tree.map_with_path(value_of, tree)
