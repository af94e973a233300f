"""What an optimizer is, and which parameters decay."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from bert_jax.training.parameter_rules import name_of

# Decoupled weight decay on matrices only (https://arxiv.org/abs/1810.04805, appendix A.2).
DECAYED = (
    (r"kernel|embedding", True),
    (r"bias|scale|transitions", False),
)


class Optimizer(NamedTuple):
    """The update of a run, and its learning rates by the name that they are logged under."""

    update: optax.GradientTransformation
    learning_rates: Mapping[str, optax.Schedule]


def scaled_by_name(factors: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Updates times the factor of the first regex that matches the beginning of the name, or 1.

    After an optimizer, that is a learning rate for each parameter.
    """

    def factor(path: jax.tree_util.KeyPath) -> float:
        name = name_of(path)
        return next((value for regex, value in factors if re.match(regex, name)), 1.0)

    def scale(updates: Any, params: Any = None) -> Any:
        del params
        return jax.tree.map_with_path(lambda path, update: factor(path) * update, updates)

    return optax.stateless(scale)
