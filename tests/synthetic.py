"""Batches without a corpus, for tests of the step."""

import numpy as np

Batch = dict[str, np.ndarray]


def random_batch(
    vocab_size: int, batch_size: int = 16, length: int = 32, predictions: int = 6, seed: int = 0
) -> Batch:
    """A batch of random tokens, two documents a row and padding after them.

    The rows differ in how many predictions count, as real ones do.
    """
    random = np.random.default_rng(seed)
    ends = random.integers(4, length + 1, (batch_size, 1))
    cuts = random.integers(2, ends - 1)
    place = np.broadcast_to(np.arange(length), (batch_size, length))
    batch = {
        "input_ids": random.integers(5, vocab_size, (batch_size, length)),
        "token_type_ids": place >= cuts,
        "position_ids": np.where(place < cuts, place, place - cuts),
        "segment_ids": np.where(place < cuts, 1, 2) * (place < ends),
        "masked_positions": np.sort(random.integers(0, ends, (batch_size, predictions))),
        "masked_labels": random.integers(5, vocab_size, (batch_size, predictions)),
        "next_sentence_label": random.integers(0, 2, batch_size),
    }
    counted = np.arange(predictions) < random.integers(0, predictions + 1, (batch_size, 1))
    batch = {name: array.astype(np.int32) for name, array in batch.items()}
    return batch | {"masked_weights": counted.astype(np.float32)}
