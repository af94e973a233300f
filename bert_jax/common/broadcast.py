"""Decisions of the first process that all processes of a run follow."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


def from_first_process(decide: Callable[[], int]) -> int:
    """What `decide` returns on the first process; it is not called on the others."""
    if jax.process_count() == 1:
        return decide()
    chosen = decide() if jax.process_index() == 0 else 0
    return int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
