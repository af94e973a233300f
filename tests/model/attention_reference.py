"""Attention in float64 with its gradients, and how far a backend is from it.

Without pytest, so that benchmarks/gpu.py can use it on a machine that has none.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from bert_jax.model.attention import attend
from bert_jax.model.dropout import random_bits

# What runs on a GPU: (backend, rows, window, has_dropout).
GPU_CASES = [
    ("cudnn", "padded", 0, False),
    ("pallas", "padded", 0, False),
    ("pallas", "packed", 0, False),
    ("pallas", "packed", 128, False),
    ("pallas", "padded", 0, True),
    ("pallas", "packed", 128, True),
]
GPU_TOLERANCE = 2e-2  # operands and results have 8 bits

HEADS, WIDTH, RATE = 2, 16, 0.25


def segments(rows: str, length: int) -> np.ndarray:
    """Three rows: padded, packed (or full where rows must not be packed), and padding alone."""
    place = np.arange(length)
    padded = place < length * 5 // 8
    ends = [length // 7, length // 7 + 1, length // 2, length - length // 9]
    packed = (np.searchsorted(ends, place, side="right") + 1) * (place < ends[-1])
    other = packed if rows == "packed" else np.ones(length)
    return np.stack([padded, other, np.zeros(length)]).astype(np.int32)


def inputs(length: int, seed: int = 0, heads: int = HEADS, width: int = WIDTH, rows: int = 3):
    """Query, key, value, and a cotangent."""
    random = np.random.default_rng(seed)
    return random.standard_normal((4, rows, length, heads, width)).astype(np.float32)


def reference(query, key, value, cotangent, segment_ids, window, factors=1.0):
    """Attention and its gradients written out in float64.

    `factors` [B, N, L, L] multiply the probabilities: 0 or 1 / (1 - rate) with dropout.
    """
    query, key, value, cotangent = (
        np.swapaxes(x, 1, 2).astype(np.float64) for x in (query, key, value, cotangent)
    )
    length, width = query.shape[2:]
    distance = np.abs(np.arange(length)[:, None] - np.arange(length))
    visible = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    if window:
        visible = visible & (distance <= window // 2)
    scores = np.where(visible, query @ key.swapaxes(2, 3) / np.sqrt(width), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    used = weights * factors
    mixed = used @ value
    change = cotangent @ value.swapaxes(2, 3) * factors
    change = weights * (change - (change * weights).sum(-1, keepdims=True)) / np.sqrt(width)
    gradients = change @ key, change.swapaxes(2, 3) @ query, used.swapaxes(2, 3) @ cotangent
    return [x.swapaxes(1, 2) for x in (mixed, *gradients)]


def dropout_key() -> PRNGKeyArray:
    return jax.random.key(7)


def dropout_factors(rows: int, length: int, heads: int) -> np.ndarray:
    """What dropout multiplies the probabilities [B, N, L, L] by: bits by index and key alone."""
    bits = np.asarray(random_bits(dropout_key(), (rows, heads, length, length)))
    return np.where(bits >= RATE * 2**32, 1 / (1 - RATE), 0)


def differences(
    arrays: np.ndarray,
    segment_ids: np.ndarray,
    *,
    window: int = 0,
    dtype: str = "float32",
    has_dropout: bool = False,
    **options,
) -> dict[str, float]:
    """How far `attend` and its gradients are from the reference.

    By result: the largest absolute difference at places of tokens, as a share of the largest
    absolute value, or of 1 if that is larger; infinite if anything, padding included, is not
    finite. Results at padding have no meaning and get no weight in the gradients.

    Args:
      arrays: from `inputs`.
      segment_ids: from `segments`.
      window: of local attention; 0: none.
      dtype: of the operands.
      has_dropout: drop a quarter of the probabilities.
      options: for `attend`.
    """
    factors: np.ndarray | float = 1.0
    if has_dropout:
        options |= {"dropout_rate": RATE, "dropout_key": dropout_key()}
        rows, length, heads, _ = arrays[0].shape
        factors = dropout_factors(rows, length, heads)
    token = (segment_ids > 0)[:, :, None, None]
    rounded = [np.asarray(jnp.asarray(x, dtype), np.float32) for x in arrays]
    *rounded, cotangent = rounded
    cotangent = cotangent * token

    @jax.jit
    def both(query, key, value, segment_ids, cotangent):
        def forward(*projections):
            return attend(*projections, segment_ids, window=window, **options)

        mixed, backward = jax.vjp(forward, query, key, value)
        return mixed, *backward(cotangent)

    *projections, cotangent = (jnp.asarray(x, dtype) for x in (*rounded, cotangent))
    found = both(*projections, jnp.asarray(segment_ids), cotangent)
    cotangent = np.asarray(cotangent, np.float32)
    expected = reference(*rounded, cotangent, segment_ids, window, factors)
    result = {}
    for name, ours, exact in zip(("mixed", "query", "key", "value"), found, expected, strict=True):
        ours = np.asarray(ours, np.float32)
        difference = np.abs(np.where(token, ours - exact, 0)).max() / max(1, np.abs(exact).max())
        result[name] = float(difference) if np.isfinite(ours).all() else np.inf
    return result
