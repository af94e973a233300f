"""Rules by parameter name: a list of (regex, value) that must cover every parameter."""

import re
from collections.abc import Sequence
from typing import Any

import jax

from bert_jax.common.errors import UserError


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


def check_rules(field: str, rules: Sequence[tuple[str, Any]], tree: Any) -> None:
    """Check rules that a user gave: they cover every parameter, and each of them is used.

    Args:
      field: of the config, for messages.
      rules: of it; none at all is fine.
      tree: of parameters.

    Raises:
      UserError: names the parameter or the rule.
    """
    if not rules:
        return
    try:
        used = set(jax.tree.leaves(assign([(regex, regex) for regex, _ in rules], tree)))
    except ValueError as error:
        raise UserError(f"config.{field}: {error}; end with .*=1 for all others") from error
    if unused := [regex for regex, _ in rules if regex not in used]:
        names = ", ".join(name_of(path) for path, _ in jax.tree.leaves_with_path(tree))
        raise UserError(
            f"config.{field}: no parameter is left for {unused[0]!r}; a regex matches the end of "
            f"a name, and the first one that matches counts. There are {names}"
        )
