"""A shuffle without a shuffle buffer: the example at a position is computed directly."""

import math

import numpy as np
from jaxtyping import Int64, UInt64

_ROUNDS = 4


def permute(
    position: Int64[np.ndarray, "B"],
    epoch: Int64[np.ndarray, "B"],
    size: int,
    key: UInt64[np.ndarray, "2"],
) -> Int64[np.ndarray, "B"]:
    """The example at each position of the order of its epoch: a bijection of [0, size).

    A Feistel network on pairs (left, right) of [0, left_size) x [0, right_size), the smallest
    near-square that holds [0, size). A result of `size` or above is permuted again until it is
    below (cycle walking; Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).

    Args:
      position: in [0, size).
      epoch: of each position; epochs have different orders.
      size: number of examples.
      key: from `randomness.key`.
    """
    left_size = np.uint64(math.isqrt(size - 1) + 1)
    right_size = np.uint64(-(-size // int(left_size)))
    round_keys = _round_keys(epoch, key)
    result = position.astype(np.uint64)
    outside = np.arange(len(result))
    while len(outside):
        left, right = np.divmod(result[outside], right_size)
        for i in range(0, _ROUNDS, 2):
            left = (left + _mix(right + round_keys[i, outside])) % left_size
            right = (right + _mix(left + round_keys[i + 1, outside])) % right_size
        result[outside] = left * right_size + right
        outside = outside[result[outside] >= size]
    return result.astype(np.int64)


def _round_keys(
    epoch: Int64[np.ndarray, "B"], key: UInt64[np.ndarray, "2"]
) -> UInt64[np.ndarray, "R B"]:
    rounds = np.arange(_ROUNDS, dtype=np.uint64)[:, None]
    return _mix(_mix(epoch.astype(np.uint64) + key[0]) + key[1] + rounds)


def _mix(value: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Spreads every bit over all others (Stafford's variant 13 of the murmur3 finalizer).

    The result is below 2**63, so that adding a coordinate to it cannot wrap around.
    """
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (value ^ (value >> np.uint64(31))) >> np.uint64(1)
