"""Texts of any length as batches of few fixed shapes, each text in a row of its own."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

Row = Int[np.ndarray, "_"]  # the ids of one text


def round_up(size: int, least: int) -> int:
    """The power of two from `least` on that `size` fits in."""
    return max(least, 1 << (size - 1).bit_length())


def pad_rows(
    rows: Sequence[Row], pad_id: int, length: int, count: int
) -> dict[str, Int[np.ndarray, "B L"]]:
    """The inputs of the encoder (`bert_jax.stream.rows`) for some texts.

    Args:
      rows: ids with the special tokens around them.
      pad_id: fills the rows.
      length: L, tokens of a row.
      count: B, rows of the batch; those without a text are padding.
    """
    shape = (count, length)
    batch = {
        "input_ids": np.full(shape, pad_id, np.int32),
        "token_type_ids": np.zeros(shape, np.int32),
        "position_ids": np.broadcast_to(np.arange(length, dtype=np.int32), shape),
        "segment_ids": np.zeros(shape, np.int32),
    }
    for index, row in enumerate(rows):
        batch["input_ids"][index, : len(row)] = row
        batch["segment_ids"][index, : len(row)] = 1
    return batch


def length_buckets(
    lengths: Sequence[int], count: int, most: int
) -> Iterator[tuple[int, list[int]]]:
    """Groups of at most `count` texts of about one length, the shortest first.

    Args:
      lengths: of the texts, in tokens.
      count: texts of a group.
      most: tokens that a row may have.

    Yields:
      The length of the group's rows, a power of two or `most`, and the numbers of its texts.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    for start in range(0, len(order), count):
        group = order[start : start + count].tolist()
        yield min(round_up(lengths[group[-1]], 16), most), group
