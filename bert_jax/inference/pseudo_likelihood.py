"""The pseudo-log-likelihood of sentences under a masked language model.

The sum, over the tokens of a sentence, of the log probability of each while it is masked (Salazar
et al. 2020, https://arxiv.org/abs/1910.14659). A token of a word of several is guessed from the
rest of its word, which favours long words: two other ways mask more of the word (Kauf and Ivanova
2023, https://arxiv.org/abs/2305.10588).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.inference.rows import length_buckets, pad_rows, round_up
from bert_jax.model import ModelConfig, Params, abstract

# What is masked with a token: nothing else; the rest of its word after it (the paper's
# PLL-word-l2r); all of its word (PLL-whole-word).
MASKINGS = ("token", "word_l2r", "whole_word")
ROWS = 64  # of a batch: masked copies of sentences


def pseudo_log_likelihoods(
    params: Params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    masking: str = "token",
) -> Float[np.ndarray, "n"]:
    """The score of each sentence, in nats; that of an empty one is 0.

    Args:
      params: of the model.
      config: the model.
      tokenizer: that it was trained with.
      sentences: any texts.
      masking: one of `MASKINGS`.

    Raises:
      UserError: a sentence has more tokens than the model takes.
    """
    known = tokenizer.vocabulary
    rows: list[Int[np.ndarray, _]] = []  # masked copies
    places: list[int] = []  # of the token that each copy is scored on
    labels: list[int] = []
    owners: list[int] = []  # the sentence that it belongs to
    for number, ids in enumerate(tokenizer.encode(list(sentences))):
        whole = np.concatenate([[known.cls_id], ids, [known.sep_id]]).astype(np.int32)
        if len(whole) > config.max_position_embeddings:
            raise UserError(
                f"the sentence {sentences[number][:80]!r}... has {len(whole)} tokens and the model "
                f"takes at most {config.max_position_embeddings}: shorten it"
            )
        for place in range(1, len(whole) - 1):
            copy = whole.copy()
            copy[masked_with(whole, place, known, masking)] = known.mask_id
            rows.append(copy)
            places.append(place)
            labels.append(int(whole[place]))
            owners.append(number)
    scores = np.zeros(len(sentences), np.float64)
    lengths = [len(row) for row in rows]
    for length, group in length_buckets(lengths, ROWS, config.max_position_embeddings):
        count = min(ROWS, round_up(len(group), 8))
        batch = pad_rows([rows[index] for index in group], known.pad_id, length, count)
        batch["masked_positions"] = _column([places[index] for index in group], count)
        wanted = _column([labels[index] for index in group], count)
        found = np.asarray(_log_probabilities(config, params, batch, wanted))[: len(group)]
        np.add.at(scores, [owners[index] for index in group], found)
    return scores


def masked_with(
    ids: Int[np.ndarray, "L"], place: int, vocabulary: Vocabulary, masking: str
) -> slice:
    """The tokens that are masked while the one at `place` is scored.

    Args:
      ids: of a sentence, with special tokens around it.
      place: of the token.
      vocabulary: says where words begin.
      masking: one of `MASKINGS`.
    """
    if masking == "token":
        return slice(place, place + 1)
    begins = vocabulary.starts_word[ids] | vocabulary.is_special[ids]
    begins[1] = True  # byte-level models leave out the first word's space
    stop = place + 1 + int(np.argmax(begins[place + 1 :]))
    start = place
    while masking == "whole_word" and not begins[start]:
        start -= 1
    return slice(start, stop)


def _column(values: list[int], count: int) -> Int[np.ndarray, "B 1"]:
    return np.pad(np.array(values, np.int32), (0, count - len(values)))[:, None]


@functools.partial(jax.jit, static_argnums=0)
def _log_probabilities(
    config: ModelConfig, params: Params, batch: Any, labels: Int[Array, "B 1"]
) -> Float[Array, "B"]:
    logits = nnx.merge(abstract(config)[0], params)(batch).mlm_logits[:, 0]
    return jax.numpy.take_along_axis(jax.nn.log_softmax(logits), labels, axis=1)[:, 0]
