"""Random batches in the shape of real ones, for measuring a step without a corpus."""

import numpy as np
from ml_collections import ConfigDict

from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch
from bert_jax.stream.settings import PAIR_OBJECTIVES

_FIRST_PIECE = 5  # behind the special ones


def random_batch(config: ConfigDict, phase: Phase, vocab_size: int, seed: int) -> Batch:
    """A global batch (contract C5) of random pieces.

    Packed rows are full of documents, cut at random at one to eight times in a row; pairs have two
    parts, and a share `config.stream.short_fraction` of them is shorter than the row.

    Args:
      config: of the run.
      phase: gives the shapes and the share of predictions.
      vocab_size: pieces.
      seed: of the batch.
    """
    random = np.random.default_rng(seed)
    rows, length = phase.global_batch_size, phase.sequence_length
    place = np.broadcast_to(np.arange(length), (rows, length))
    sizes = np.full((rows, 1), length)
    token_types = np.zeros((rows, length), bool)
    if config.stream.objective in PAIR_OBJECTIVES:
        is_short = random.random((rows, 1)) < config.stream.short_fraction
        sizes = np.where(is_short, random.integers(5, length + 1, (rows, 1)), sizes)
        token_types = (place >= sizes // 2) & (place < sizes)
        starts = place == 0
    else:
        starts = random.random((rows, length)) * length < random.integers(0, 8, (rows, 1))
        starts[:, 0] = True
    begin = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    is_text = place < sizes
    places = phase.max_predictions
    order = np.argsort(random.random((rows, length)) + ~is_text, axis=1)[:, :places]
    counted = np.arange(places) < np.minimum(np.round(phase.mask_rate * sizes), sizes)
    masked = np.sort(np.where(counted, order, length), axis=1)  # free places come last
    batch = {
        "input_ids": random.integers(_FIRST_PIECE, vocab_size, (rows, length)) * is_text,
        "token_type_ids": token_types,
        "position_ids": (place - begin) * is_text,
        "segment_ids": np.cumsum(starts, axis=1) * is_text,
        "masked_positions": np.where(masked < length, masked, 0),
        "masked_labels": random.integers(_FIRST_PIECE, vocab_size, (rows, places)),
    }
    if config.stream.objective in PAIR_OBJECTIVES:
        batch["next_sentence_label"] = random.integers(0, 2, rows)
    batch = {name: array.astype(np.int32) for name, array in batch.items()}
    return batch | {"masked_weights": (masked < length).astype(np.float32)}
