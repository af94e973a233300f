"""Random bits by address: the same (seed, purpose, example) always draws the same ones.

numpy's Philox is a counter-based generator (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011) whose bits numpy promises never to change (NEP 19).
"""

import hashlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt32, UInt64

# (purpose, width) -> [B, width], the random numbers of the rows of a batch
Draw = Callable[[str, int], UInt32[np.ndarray, "_ _"]]

# One step of Philox's counter gives 256 bits: 8 columns of 32. A row takes whole steps, so that the
# counter of an example is a multiple of its number.
_COLUMNS = 8


def key(seed: int, *names: str | int) -> UInt64[np.ndarray, "2"]:
    """A key for a seed and names; different names have unrelated keys."""
    text = "/".join(str(part) for part in (seed, *names))
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), "<u8")


def bits(
    seed: int, purpose: str, first_example: int, rows: int, width: int
) -> UInt32[np.ndarray, "{rows} {width}"]:
    """Random bits for the examples first_example ... first_example + rows - 1, one row each.

    A row depends on (seed, purpose, width) and on its example alone: however the examples are
    divided into calls, the rows are the same.
    """
    blocks = -(-width // _COLUMNS)
    columns = blocks * _COLUMNS
    generator = np.random.Philox(key=key(seed, purpose, width), counter=first_example * blocks)
    raw = generator.random_raw(rows * columns // 2)
    return raw.astype("<u8", copy=False).view("<u4").reshape(rows, columns)[:, :width]


def below(
    random: UInt32[np.ndarray, "*shape"], limit: int | Int[np.ndarray, "..."]
) -> Int[np.ndarray, "*shape"]:
    """Integers in [0, limit), uniform up to limit / 2**32; `limit` is below 2**31."""
    return (random.astype(np.int64) * limit) >> 32
