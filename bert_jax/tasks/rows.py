"""The tokenized rows of a split, as flat arrays; rows belong to units, which are drawn together.

A unit is what a batch counts: one row in most tasks, a pair of texts for similarity, all candidates
of a multiple choice. A long document is several units (windows) of one example.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int, Int32

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

T = TypeVar("T")
IGNORED = -100  # the label of a token that is not scored


@dataclasses.dataclass(frozen=True)
class Rows:
    """Tokenized rows with [CLS] and [SEP].

    Attributes:
      ids: of all rows, one after another.
      offsets: [R + 1], where each row begins.
      second_at: [R], where the second text of a row begins in it; its length if there is none.
      example: [U], the example that each unit is a part of, ascending.
      of_unit: arrays [U, ...] by name, such as labels.
      of_token: arrays parallel to `ids` by name, such as tags.
      group: rows of a unit; row r belongs to unit r // group.
      cut: examples with a text that was cut to the longest row.
    """

    ids: Int32[np.ndarray, "T"]
    offsets: Int[np.ndarray, "R1"]
    second_at: Int[np.ndarray, "R"]
    example: Int[np.ndarray, "U"]
    of_unit: dict[str, np.ndarray]
    of_token: dict[str, np.ndarray]
    group: int = 1
    cut: int = 0

    def __len__(self) -> int:
        return len(self.example)

    @property
    def lengths(self) -> Int[np.ndarray, "U"]:
        """Tokens of the longest row of each unit."""
        return np.diff(self.offsets).reshape(-1, self.group).max(axis=1)

    def batch(
        self, units: Int[np.ndarray, "B"], size: int, length: int, vocabulary: Vocabulary
    ) -> dict[str, np.ndarray]:
        """The arrays of some units: [B, G, L], or [B, L] where a unit is one row.

        Missing units are padding: their `weight` is 0.

        Args:
          units: at most `size`.
          size: B.
          length: L, at least that of the longest row.
          vocabulary: of the ids.
        """
        rows = (units[:, None] * self.group + np.arange(self.group)).reshape(-1)
        starts, lengths = self.offsets[rows], np.diff(self.offsets)[rows]
        column = np.arange(length)
        is_text = column < lengths[:, None]
        at = np.where(is_text, starts[:, None] + column, 0)
        shape = (size, length) if self.group == 1 else (size, self.group, length)

        def spread(values: np.ndarray, fill: int) -> np.ndarray:
            whole = np.full((size * self.group, length), fill, np.int32)
            whole[: len(rows)] = np.where(is_text, values, fill)
            return whole.reshape(shape)

        batch = {
            "input_ids": spread(self.ids[at], vocabulary.pad_id),
            "token_type_ids": spread(column >= self.second_at[rows][:, None], 0),
            "position_ids": spread(np.broadcast_to(column, at.shape), 0),
            "segment_ids": spread(np.ones(at.shape, np.int32), 0),
            "weight": np.zeros(size, np.float32),
        }
        batch["weight"][: len(units)] = 1.0
        for name, values in self.of_token.items():
            batch[name] = spread(values[at], IGNORED)
        for name, values in self.of_unit.items():
            whole = np.zeros((size, *values.shape[1:]), values.dtype)
            whole[: len(units)] = values[units]
            batch[name] = whole
        return batch


class RowBuilder:
    """Collects rows, cut to `max_length` tokens; `build` makes the arrays."""

    def __init__(self, vocabulary: Vocabulary, max_length: int, group: int = 1):
        self._vocabulary = vocabulary
        self._max_length = max_length
        self._group = group
        self._ids: list[np.ndarray] = []
        self._second_at: list[int] = []
        self._example: list[int] = []
        self._of_unit: dict[str, list] = {}
        self._of_token: dict[str, list[np.ndarray]] = {}
        self._cut: set[int] = set()  # examples

    def add(
        self,
        example: int,
        first: np.ndarray,
        second: np.ndarray | None = None,
        of_token: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Add a row `[CLS] first [SEP]` or `[CLS] first [SEP] second [SEP]`.

        Texts that do not fit are cut, the longer one first.

        Args:
          example: that it belongs to.
          first: ids.
          second: ids of the second text.
          of_token: values of the tokens of the row, without [CLS] and [SEP]: of the first text, or
            of both one after another. The texts must fit then.
        """
        given = len(first) + (0 if second is None else len(second))
        if second is None:
            first = first[: self._max_length - 2]
        else:
            first, second = truncated_pair(first, second, self._max_length - 3)
        if len(first) + (0 if second is None else len(second)) < given:
            self._cut.add(example)
        cls, sep = [self._vocabulary.cls_id], [self._vocabulary.sep_id]
        parts: list[Any] = [cls, first, sep] if second is None else [cls, first, sep, second, sep]
        ids = np.concatenate(parts).astype(np.int32)
        self._ids.append(ids)
        self._second_at.append(len(first) + 2)
        if (len(self._ids) - 1) % self._group == 0:
            self._example.append(example)
        for name, values in (of_token or {}).items():
            framed = np.full(len(ids), IGNORED, np.int32)
            framed[1 : 1 + len(first)] = values[: len(first)]
            if second is not None:
                framed[2 + len(first) : -1] = values[len(first) :]
            self._of_token.setdefault(name, []).append(framed)

    def windows(
        self, example: int, first: np.ndarray, second: np.ndarray | None, stride: int
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """See `row_windows`; an example is cut where both texts of its pair are too long."""
        rows = row_windows(first, second, self._max_length, stride)
        a, b = rows[0]
        if second is not None and b is not None and len(a) < len(first) and len(b) < len(second):
            self._cut.add(example)
        return rows

    def label(self, **values: object) -> None:
        """Values of the unit that was just completed."""
        for name, value in values.items():
            self._of_unit.setdefault(name, []).append(value)

    def build(self, dtypes: dict[str, type]) -> Rows:
        """The rows; `dtypes` of the values of units.

        Raises:
          UserError: there are none.
        """
        if not self._ids:
            raise UserError("the data has no example with any text: look at config.data")
        lengths = [len(ids) for ids in self._ids]
        return Rows(
            np.concatenate(self._ids),
            np.concatenate([[0], np.cumsum(lengths)]),
            np.array(self._second_at),
            np.array(self._example),
            {name: np.array(list_, dtypes[name]) for name, list_ in self._of_unit.items()},
            {name: np.concatenate(list_) for name, list_ in self._of_token.items()},
            self._group,
            len(self._cut),
        )


def windows(count: int, room: int, stride: int) -> list[slice]:
    """Ranges of at most `room` tokens that cover `count`.

    Each overlaps the last one by `stride` tokens, or by half of the room if that is less.
    """
    stride = min(stride, room // 2)
    starts = range(0, max(count - stride, 1), room - stride) if count > room else [0]
    return [slice(start, min(start + room, count)) for start in starts]


def row_windows(
    first: np.ndarray, second: np.ndarray | None, max_length: int, stride: int
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """The texts of each row that a text, or a pair, becomes; one row with a `stride` of 0."""
    if not stride:
        return [(first, second)]
    if second is not None:
        return [*pair_windows(first, second, max_length - 3, stride)]
    return [(first[part], None) for part in windows(len(first), max_length - 2, stride)]


def side_by_side(parts: Sequence[Sequence[T]]) -> list[tuple[list[T], list[bool]]]:
    """Units of the windows of several texts, the first ones of all, then the second ones, ...

    Where a text has fewer windows they begin again. The second list says which are there for the
    first time.
    """
    return [
        ([part[k % len(part)] for part in parts], [k < len(part) for part in parts])
        for k in range(max(map(len, parts)))
    ]


def pair_windows(
    first: np.ndarray, second: np.ndarray, room: int, stride: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of at most `room` tokens: windows of the longer text, each beside the shorter one.

    The shorter text is cut to half of the room.
    """
    if len(first) + len(second) <= room:
        return [(first, second)]
    if len(first) > len(second):
        return [(a, b) for b, a in pair_windows(second, first, room, stride)]
    first = first[: room // 2]
    parts = windows(len(second), room - len(first), stride)
    return [(first, second[part]) for part in parts]


def truncated_pair(
    first: np.ndarray, second: np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both cut until they fit into `room` tokens, the longer one first, as BERT does."""
    excess = len(first) + len(second) - room
    if excess <= 0:
        return first, second
    cut = min(excess, max(len(first) - len(second), 0))  # from the first while it is longer
    first = first[: len(first) - cut]
    cut_second = min(excess - cut, max(len(second) - len(first), 0))
    second = second[: len(second) - cut_second]
    rest = excess - cut - cut_second  # both are as long now
    first, second = first[: len(first) - rest // 2], second[: len(second) - (rest - rest // 2)]
    return first, second


def bucket_lengths(lengths: Sequence[int] | np.ndarray, count: int, multiple: int = 8) -> list[int]:
    """At most `count` lengths that rows are padded to, with the least padding in all.

    Each is a multiple of `multiple`, the last one holds the longest row. Exact, by dynamic
    programming over the lengths that occur.
    """
    rounded = -(-np.asarray(lengths) // multiple) * multiple
    sizes, numbers = np.unique(rounded, return_counts=True)
    before = np.concatenate([[0], np.cumsum(numbers)])  # rows with a smaller size
    # cost[j]: tokens of all rows up to size j with the last bucket there
    cost = sizes * before[1:]
    choices: list[np.ndarray] = []
    for _ in range(min(count, len(sizes)) - 1):
        joined = cost[:, None] + sizes[None, :] * (before[1:][None, :] - before[1:][:, None])
        joined = np.where(np.arange(len(sizes))[:, None] < np.arange(len(sizes)), joined, np.inf)
        choices.append(np.where(joined.min(axis=0) < cost, joined.argmin(axis=0), -1))
        cost = np.minimum(cost, joined.min(axis=0))
    found, last = [], len(sizes) - 1
    for choice in reversed(choices):
        found.append(int(sizes[last]))
        if choice[last] < 0:
            return found[::-1]
        last = choice[last]
    return [*reversed([*found, int(sizes[last])])]
