"""Which tokens are to be predicted, and what stands in their place."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Int32, UInt32

from bert_jax.corpus.vocabulary import Vocabulary
from bert_jax.stream.randomness import below
from bert_jax.stream.rows import Batch


@dataclasses.dataclass(frozen=True)
class Masking:
    """How tokens are masked.

    Attributes:
      rate: share of the tokens of a row, special ones counted, that are to be predicted.
      mask_share: of those, replaced by [MASK].
      random_share: of those, replaced by a random ordinary piece; the rest stays as it is.
    """

    rate: float
    mask_share: float
    random_share: float


def num_predictions(rate: float, sequence_length: int) -> int:
    """P, the most predictions that a row of L tokens has."""
    return math.ceil(round(rate * sequence_length, 6))


def mask_rows(
    ids: Int32[np.ndarray, "B L"],
    segment_ids: Int32[np.ndarray, "B L"],
    masking: Masking,
    vocabulary: Vocabulary,
    positions_random: UInt32[np.ndarray, "B L"],
    replacements_random: UInt32[np.ndarray, "B R"],
) -> Batch:
    """Chooses tokens uniformly among the ordinary ones of each row and replaces them.

    As in google-research/bert, a row of n tokens has round(rate * n) predictions, at least one
    and at most P; fewer if there are not as many ordinary tokens.

    Args:
      ids: the tokens.
      segment_ids: 0 is padding.
      masking: how.
      vocabulary: of the ids.
      positions_random: one number a token, to choose among them.
      replacements_random: two a prediction (R = 2 P), to choose what stands in its place.

    Returns:
      input_ids: [B, L], the replacements in place.
      masked_positions: [B, P], ascending; 0 where there is none.
      masked_labels: [B, P], the ids that stood there; 0 where there is none.
      masked_weights: [B, P], 1 for predictions, 0 where there is none.
    """
    predictions = replacements_random.shape[1] // 2
    is_ordinary = ~vocabulary.is_special[ids] & (segment_ids > 0)
    tokens = np.count_nonzero(segment_ids, axis=1)
    wanted = np.clip(np.rint(masking.rate * tokens), 1, predictions).astype(np.int64)
    count = np.minimum(wanted, np.count_nonzero(is_ordinary, axis=1))
    weights = np.arange(predictions) < count[:, None]

    positions = _highest(positions_random, is_ordinary, predictions)
    positions = np.sort(np.where(weights, positions, ids.shape[1]), axis=1)
    positions = np.where(weights, positions, 0)
    labels = np.take_along_axis(ids, positions, axis=1)

    action, piece = np.split(replacements_random, 2, axis=1)
    ordinary = np.flatnonzero(~vocabulary.is_special).astype(np.int32)
    replacements = labels.copy()
    is_random = action < (masking.mask_share + masking.random_share) * 2**32
    replacements[is_random] = ordinary[below(piece[is_random], len(ordinary))]
    replacements[action < masking.mask_share * 2**32] = vocabulary.mask_id
    row, prediction = np.nonzero(weights)
    masked = ids.copy()
    masked[row, positions[row, prediction]] = replacements[row, prediction]
    return {
        "input_ids": masked,
        "masked_positions": positions.astype(np.int32),
        "masked_labels": labels * weights,
        "masked_weights": weights.astype(np.float32),
    }


def _highest(
    random: UInt32[np.ndarray, "B L"], is_candidate: Bool[np.ndarray, "B L"], count: int
) -> UInt32[np.ndarray, "B {count}"]:
    """Columns of the highest random numbers among the candidates, highest first.

    The column stands in the low bits, so one sort of plain integers, which processors do fast,
    orders the columns; behind the candidates follow arbitrary ones.
    """
    length = random.shape[1]
    low_bits = np.uint32((1 << (length - 1).bit_length()) - 1)
    score = (random & ~low_bits) | np.arange(length, dtype=np.uint32)
    score = np.sort(np.where(is_candidate, score, np.uint32(0)), axis=1)
    return score[:, : -count - 1 : -1] & low_bits
