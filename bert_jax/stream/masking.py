"""What stands in the place of the tokens that are to be predicted."""

import math

import numpy as np
from jaxtyping import Int32

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.randomness import Draw
from bert_jax.stream.rows import Batch
from bert_jax.stream.units import choose


def max_predictions(rate: float, sequence_length: int) -> int:
    """P, the most predictions that a row of L tokens has."""
    return math.ceil(round(rate * sequence_length, 6))


class Masker:
    """Chooses tokens of rows and replaces them."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        unit: str,
        mask_replace_prob: float,
        random_replace_prob: float,
    ):
        """Prepares the tables.

        Args:
          vocabulary: of the ids.
          unit: what is chosen together, one of `units.UNITS`.
          mask_replace_prob: of the chosen tokens, replaced by [MASK].
          random_replace_prob: of them, replaced by a random token; the rest stays as it is.
        """
        self._vocabulary = vocabulary
        self._unit = unit
        self._is_ordinary = ~vocabulary.is_special
        self._ordinary = np.flatnonzero(self._is_ordinary).astype(np.int32)
        self._mask_share = mask_replace_prob
        self._random_share = random_replace_prob

    def mask(
        self,
        ids: Int32[np.ndarray, "B L"],
        segment_ids: Int32[np.ndarray, "B L"],
        rate: float,
        predictions: int,
        draw: Draw,
    ) -> Batch:
        """Rows with some of their ordinary tokens replaced.

        As in google-research/bert, a row of n tokens, special ones counted, has round(rate * n)
        predictions, at least one and at most P; fewer if there are not as many ordinary tokens.

        Args:
          ids: the tokens.
          segment_ids: 0 is padding.
          rate: share of the tokens that are to be predicted.
          predictions: P.
          draw: the random numbers of the rows.

        Returns:
          input_ids: [B, L], the replacements in place.
          masked_positions: [B, P], ascending; 0 where there is none.
          masked_labels: [B, P], the ids that stood there; 0 where there is none.
          masked_weights: [B, P], 1 for predictions, 0 where there is none.
        """
        rows, length = ids.shape
        is_ordinary = self._is_ordinary.take(ids)
        tokens = np.count_nonzero(segment_ids > 0, axis=1)
        wanted = np.clip(np.rint(rate * tokens), 1, predictions).astype(np.int64)
        columns, weights = choose(
            self._unit, ids, is_ordinary, wanted, predictions, self._vocabulary, draw
        )
        positions = np.where(weights, columns.astype(np.int32), length)
        positions.sort(axis=1)
        place = (positions + length * np.arange(rows)[:, None])[weights]  # in all rows
        np.copyto(positions, 0, where=~weights)
        labels = np.zeros((rows, predictions), np.int32)
        labels[weights] = placed = ids.take(place)

        # One number a prediction: the interval that it lies in tells what to do, and within the
        # interval for random pieces its place tells which.
        number = draw("replacements", predictions)[weights] / 2**32
        beyond = number - self._mask_share
        is_random = np.flatnonzero((beyond >= 0) & (beyond < self._random_share))
        piece = (beyond[is_random] / self._random_share * len(self._ordinary)).astype(np.int64)
        placed[is_random] = self._ordinary.take(piece, mode="clip")
        np.copyto(placed, self._vocabulary.mask_id, where=beyond < 0)
        masked = ids.copy()
        masked.reshape(-1)[place] = placed
        return {
            "input_ids": masked,
            "masked_positions": positions,
            "masked_labels": labels,
            "masked_weights": weights.astype(np.float32),
        }
