"""The batches on which an exported folder is compared: random ids and real text."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from bert_jax.model import ModelConfig

TEXTS = 8  # real texts that are compared at most
NumpyBatch = dict[str, np.ndarray]  # the arrays of a `model.Batch`


def padded_batch(config: ModelConfig) -> NumpyBatch:
    """Two random rows of two segments, the second with padding at its end."""
    length = _length(config)
    rows = np.array([[1] * length, [1] * (length - length // 4) + [0] * (length // 4)])
    positions = np.broadcast_to(np.arange(length), rows.shape)
    return _batch(config, rows, positions)


def packed_batch(config: ModelConfig) -> NumpyBatch:
    """Two random rows of several documents, whose positions start at 0; one row ends in padding."""
    length = _length(config)
    first, second = length // 5, length - length // 3
    rows = np.zeros((2, length), np.int64)
    rows[0, :first], rows[0, first:second], rows[0, second:] = 1, 2, 3
    rows[1, :second], rows[1, second : length - 2] = 1, 2
    is_first = np.diff(rows, axis=1, prepend=-1) != 0
    column = np.arange(length)
    positions = column - np.maximum.accumulate(np.where(is_first, column, 0), axis=1)
    return _batch(config, rows, positions)


def text_batch(config: ModelConfig, texts: Sequence[Int[np.ndarray, "_"]]) -> NumpyBatch:
    """Rows of the first texts, one each and of segment 0, with padding."""
    length = _length(config)
    texts = [ids[:length] for ids in texts[:TEXTS]]
    rows = np.array([[1] * len(ids) + [0] * (length - len(ids)) for ids in texts])
    batch = _batch(config, rows, np.broadcast_to(np.arange(length), rows.shape))
    batch["token_type_ids"][:] = 0
    for row, ids in zip(batch["input_ids"], texts, strict=True):
        row[: len(ids)] = ids
    return batch


def _length(config: ModelConfig) -> int:
    """Tokens of a row: longer than a local window, so that the window matters."""
    return min(config.max_position_embeddings, max(64, 2 * config.local_attention), 512)


def _batch(config: ModelConfig, segment_ids: np.ndarray, position_ids: np.ndarray) -> NumpyBatch:
    random = np.random.default_rng(0)
    rows, length = segment_ids.shape
    token_types = np.arange(length) * max(config.token_types, 1) // length
    return {
        "input_ids": random.integers(0, config.vocab_size, (rows, length), dtype=np.int32),
        "token_type_ids": np.broadcast_to(token_types, (rows, length)).astype(np.int32),
        "position_ids": position_ids.astype(np.int32),
        "segment_ids": segment_ids.astype(np.int32),
        "masked_positions": np.broadcast_to(np.arange(length), (rows, length)).astype(np.int32),
    }
