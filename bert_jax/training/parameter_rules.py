"""Policies by parameter name: one list of (regex, policy), every parameter covered."""

import re
from collections.abc import Sequence
from typing import Any

import jax

Policy = Any


def name_of(path: jax.tree_util.KeyPath) -> str:
    """`encoder.layers.0.attention.qkv.kernel` for a path in the parameter tree."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def assign(policies: Sequence[tuple[str, Policy]], tree: Any) -> Any:
    """The tree of each leaf's policy: that of the first regex found at the end of its name.

    Raises:
      ValueError: no regex matches a leaf's name, so that nothing is ever left to a default.
    """

    def policy(path: jax.tree_util.KeyPath, _: Any) -> Policy:
        name = name_of(path)
        for pattern, value in policies:
            if re.search(rf"(^|\.)({pattern})$", name):
                return value
        raise ValueError(f"no policy covers the parameter {name}")

    return jax.tree.map_with_path(policy, tree)
