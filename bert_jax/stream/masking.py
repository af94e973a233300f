"""BERT's masking (Devlin et al., 2019, section 3.1).

15 % of the tokens are to be predicted. Of these, 80 % are replaced by [MASK], 10 % by a random
token, and 10 % are kept.

A worked example: a row of 8 tokens at a mask rate of 0.3. round(0.3 * 8) = 2 are to be predicted;
P = ceil(0.3 * 8) = 3 is the width of the arrays.

    ids               [CLS]  the   cat   sat   on   it   now  [SEP]
    chosen                          x                     x
    uniform number                 0.31                  0.83      < 0.8: [MASK]; < 0.9: random
    input_ids         [CLS]  the  [MASK] sat   on   it   dog  [SEP]

    masked_positions    2     6     0
    masked_labels      cat   now    0        the ids before they were replaced
    masked_weights      1     1     0        0: unused
"""

import math

import numpy as np
from jaxtyping import Float64, Int32

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.randomness import Draw
from bert_jax.stream.rows import Batch
from bert_jax.stream.units import choose


def max_predictions(rate: float, sequence_length: int) -> int:
    """P, the most predictions that a row of L tokens can have: ceil(rate * L).

    Rounded first, because 0.07 * 100 is 7.000000000000001.
    """
    return math.ceil(round(rate * sequence_length, 6))


class Masker:
    """Chooses the tokens to predict and replaces them in the input."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        unit: str,
        mask_replace_prob: float,
        random_replace_prob: float,
    ):
        """Prepares the ids that may be masked and drawn.

        Args:
          vocabulary: of the ids.
          unit: what is chosen together, one of `units.UNITS`.
          mask_replace_prob: share of the chosen tokens that become [MASK].
          random_replace_prob: share of them that become a random token; the rest is kept.
        """
        self._vocabulary = vocabulary
        self._unit = unit
        self._is_ordinary = ~vocabulary.is_special
        self._ordinary_ids = np.flatnonzero(self._is_ordinary).astype(np.int32)
        self._mask_replace_prob = mask_replace_prob
        self._random_replace_prob = random_replace_prob

    def mask(
        self,
        ids: Int32[np.ndarray, "B L"],
        segment_ids: Int32[np.ndarray, "B L"],
        rate: float,
        predictions: int,
        draw: Draw,
    ) -> Batch:
        """Masks rows.

        As in google-research/bert, a row of n tokens, special ones counted, has round(rate * n)
        predictions, at least one and at most P; fewer if the row has fewer ordinary (not special)
        tokens.

        Args:
          ids: the tokens; not modified.
          segment_ids: 0 is padding.
          rate: share of the tokens to predict.
          predictions: P.
          draw: the random numbers of the rows.

        Returns:
          input_ids: [B, L], with the replacements.
          masked_positions: [B, P], ascending; 0 where unused.
          masked_labels: [B, P], the ids before the replacement; 0 where unused.
          masked_weights: [B, P], 1 for predictions, 0 where unused.
        """
        # Choose the tokens to predict: 15 % of a row, never a special token.
        is_ordinary = self._is_ordinary.take(ids)
        num_tokens = np.count_nonzero(segment_ids > 0, axis=1)
        num_to_predict = np.clip(np.rint(rate * num_tokens), 1, predictions).astype(np.int64)
        columns, is_chosen = choose(
            self._unit, ids, is_ordinary, num_to_predict, predictions, self._vocabulary, draw
        )
        rows, length = ids.shape
        positions = np.where(is_chosen, columns.astype(np.int32), length)  # unused ones sort last
        positions.sort(axis=1)
        index = (positions + length * np.arange(rows)[:, None])[is_chosen]  # in ids.reshape(-1)
        np.copyto(positions, 0, where=~is_chosen)
        chosen_ids = ids.take(index)
        labels = np.zeros((rows, predictions), np.int32)
        labels[is_chosen] = chosen_ids

        # Of the chosen tokens, replace 80 % by [MASK] and 10 % by a random token, keep 10 %.
        uniform = draw("replacements", predictions)[is_chosen] / 2**32  # in [0, 1)
        above_mask = uniform - self._mask_replace_prob
        is_masked = above_mask < 0
        is_random = ~is_masked & (above_mask < self._random_replace_prob)
        replacements = np.where(is_masked, np.int32(self._vocabulary.mask_id), chosen_ids)
        # Where `is_random` holds, `above_mask` is uniform in [0, random_replace_prob): it also
        # selects the random token, so that each prediction needs only one random number.
        replacements[is_random] = self._random_tokens(
            above_mask[is_random] / self._random_replace_prob
        )
        masked = ids.copy()
        masked.reshape(-1)[index] = replacements
        return {
            "input_ids": masked,
            "masked_positions": positions,
            "masked_labels": labels,
            "masked_weights": is_chosen.astype(np.float32),
        }

    def _random_tokens(self, uniform: Float64[np.ndarray, "n"]) -> Int32[np.ndarray, "n"]:
        """An ordinary token for each number in [0, 1), uniformly."""
        index = (uniform * len(self._ordinary_ids)).astype(np.int64)
        return self._ordinary_ids.take(index, mode="clip")  # rounding may reach the end
