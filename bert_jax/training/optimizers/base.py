"""What an optimizer is, and which parameters decay."""

from collections.abc import Mapping
from typing import NamedTuple

import optax

# Decoupled weight decay on matrices only (https://arxiv.org/abs/1810.04805, appendix A.2).
DECAYED = (
    (r"kernel|embedding", True),
    (r"bias|scale|transitions", False),
)


class Optimizer(NamedTuple):
    """The update of a run, and its learning rates by the name that they are logged under."""

    update: optax.GradientTransformation
    learning_rates: Mapping[str, optax.Schedule]
