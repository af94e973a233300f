"""The interface between the stream and the rows of an objective."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from bert_jax.stream.randomness import Draw
from bert_jax.stream.rows import Batch


@runtime_checkable
class Examples(Protocol):
    """The rows of an objective at one length, by their index in an epoch.

    Attributes:
      sizes: number of rows of each source in an epoch; the rows of a source have consecutive
        indices.
    """

    sizes: dict[str, int]

    def shard_of(self, index: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """The shard that each row is taken from; non-decreasing in the index."""

    def rows(
        self, index: Int64[np.ndarray, "B"], epoch: Int64[np.ndarray, "B"], draw: Draw
    ) -> Batch:
        """The rows `index` of the epochs `epoch`, before masking; all randomness is from `draw`."""
