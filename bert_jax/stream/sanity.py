"""Checks before training that the batches of a run have something to predict."""

import numpy as np
from jaxtyping import Int64

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.batches import TrainBatches

_STEPS = 4  # of each phase
_ROWS = 64  # of each of these steps, if the batch has as many
_LEAST_SHARE = 0.5  # of the rows, that have something to predict


def check_predictions(batches: TrainBatches, vocabulary: Vocabulary) -> None:
    """Refuses a run in which most rows have nothing to predict.

    The loss of such a run is 0.000, or that of a few tokens, from the first step on. Masking gives
    every row with an ordinary token a prediction, so this is a corpus that its tokenizer does not
    cover. Every process looks at the same rows: the first ones of the first steps of each phase.

    Args:
      batches: of the run; one without masked tokens is not checked.
      vocabulary: of the token store.

    Raises:
      UserError: most rows have nothing to predict.
    """
    for phase in batches.settings.phases:
        sample = [
            batches.batch(step, _first_rows)
            for step in range(phase.start, min(phase.start + _STEPS, phase.stop))
        ]
        if not sample or "masked_weights" not in sample[0]:
            continue
        has_prediction = np.concatenate([batch["masked_weights"].any(axis=1) for batch in sample])
        if np.mean(has_prediction) >= _LEAST_SHARE:
            continue
        is_token = np.concatenate([batch["segment_ids"] > 0 for batch in sample])
        ids = np.concatenate([batch["input_ids"] for batch in sample])
        of_empty_rows = ids[is_token & ~has_prediction[:, None]]
        unknown = np.mean(of_empty_rows == vocabulary.unk_id)
        raise UserError(
            f"{np.count_nonzero(~has_prediction)} of the first {len(has_prediction)} rows of phase "
            f"{phase.index} have nothing to predict: all their tokens are special ones "
            f"({unknown:.0%} [UNK]), which are never masked; give config.tokenizer.path a "
            "tokenizer that covers the text of config.corpus.source, or leave it empty to train one"
        )


def _first_rows(global_batch_size: int) -> Int64[np.ndarray, "rows"]:
    return np.arange(min(_ROWS, global_batch_size))
