"""Which attention probabilities are dropped: one rule for all backends.

A probability [b, n, i, j] of B rows, N heads and L tokens has the index ((b N + n) L + i) L + j
(modulo 2^32), whichever part of [B, N, L, L] a backend computes at a time, however rows and heads
are sharded, and into however many micro-batches the B rows are split. Its random bits are a hash of
that index and the key.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Integer, PRNGKeyArray, UInt32

from bert_jax.model.dropout import hashed, rows_in_context
from bert_jax.model.placement import ROWS


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dropout:
    """Dropout of the probabilities of one call, or of one device's part of it.

    Attributes:
      words: the two words of the key, uint32.
      first: b N + n of the first row and head.
      row_step: b N + n of a row minus that of the one before it: N, or with m micro-batches, of
        which each has every m-th row, m N.
      rate: share of the probabilities that are dropped.
    """

    words: tuple[UInt32[Array, ""], UInt32[Array, ""]]
    first: UInt32[Array, ""]
    row_step: int = dataclasses.field(metadata={"static": True})
    rate: float = dataclasses.field(metadata={"static": True})

    @classmethod
    def create(cls, rate: float, key: PRNGKeyArray | None, heads: int) -> "Dropout | None":
        """None where nothing is dropped."""
        if key is None or rate == 0.0:
            return None
        first, second = jax.random.key_data(key)
        rows = rows_in_context()
        first_row = jnp.asarray(rows.first, jnp.uint32) * jnp.uint32(heads)
        return cls((first, second), first_row, heads * rows.stride, rate)

    def of_device(self, rows: int, heads: int) -> "Dropout":
        """The part of a device that holds so many rows and heads; inside `jax.shard_map`."""
        row, head = jax.lax.axis_index(ROWS) * rows, jax.lax.axis_index("tensor") * heads
        first = row * self.row_step + head
        return dataclasses.replace(self, first=self.first + first.astype(jnp.uint32))

    def bits(
        self,
        row: Integer[Array, "*#B"],
        query_positions: Int[Array, "*#B"],
        key_positions: Int[Array, "*#B"],
        length: int,
    ) -> UInt32[Array, "*B"]:
        """The random bits of some probabilities; the arrays broadcast against each other.

        Args:
          row: b N + n, counted from `first`.
          query_positions: i.
          key_positions: j; those outside the row get bits without meaning.
          length: L.
        """
        row, query, key = (x.astype(jnp.uint32) for x in (row, query_positions, key_positions))
        stride = jnp.uint32(length)
        index = ((row + self.first) * stride + query) * stride + key
        return hashed(index, *self.words)
