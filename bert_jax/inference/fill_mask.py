"""Predictions for the [MASK]s of a text."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.inference.rows import pad_rows, round_up
from bert_jax.model import ModelConfig, Params, abstract

MAX_ROWS = 16  # texts in one batch
REPLACEMENT = "\ufffd"  # what decoding gives for bytes that are not UTF-8


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A token for one [MASK]: as in the vocabulary, as readable text, and its probability."""

    piece: str
    text: str
    probability: float


def fill_mask(
    params: Params,
    model_config: ModelConfig,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    top: int = 5,
    fetch: Callable[[Any], Any] = jax.device_get,
) -> list[list[list[Prediction]]]:
    """The `top` most probable tokens for each [MASK] of each text, the most probable first.

    Batches have a few fixed shapes, so that later calls compile nothing unless a text is much
    longer. Special tokens are never predicted.

    Args:
      params: of the encoder.
      model_config: of the encoder.
      tokenizer: that it was trained with.
      texts: each with at least one [MASK].
      top: tokens for each [MASK].
      fetch: brings arrays to the host.

    Raises:
      UserError: a text has no [MASK], or more tokens than the model takes.
    """
    rows = [_encode(text, tokenizer, model_config) for text in texts]
    top = min(top, int((~tokenizer.vocabulary.is_special).sum()))
    filled = []
    for start in range(0, len(rows), MAX_ROWS):
        chunk = rows[start : start + MAX_ROWS]
        batch = _batch(chunk, tokenizer, model_config)
        special = np.flatnonzero(tokenizer.vocabulary.is_special).astype(np.int32)
        probabilities, ids = fetch(_most_probable(model_config, top, params, batch, special))
        for row, ids_of_row, of_row in zip(chunk, ids, probabilities, strict=False):
            masks = np.count_nonzero(row == tokenizer.vocabulary.mask_id)
            pairs = zip(ids_of_row[:masks], of_row[:masks], strict=True)
            filled.append([_predictions(tokenizer, *pair) for pair in pairs])
    return filled


def readable(text: str, filled: list[list[Prediction]], mask: str = "[MASK]") -> str:
    """The text and, below it, a line for each of its masks with the predictions."""
    names = [f"{mask} {i + 1}" for i in range(len(filled))] if len(filled) > 1 else [mask]
    return "\n".join([text.strip(), *_lines(names, filled)])


def _predictions(
    tokenizer: Tokenizer, ids: Int[np.ndarray, "top"], probabilities: Float[np.ndarray, "top"]
) -> list[Prediction]:
    pairs = zip(ids, probabilities, strict=True)
    return [
        Prediction(tokenizer.piece(int(id)), _spell(tokenizer, int(id)), float(share))
        for id, share in pairs
    ]


def _lines(names: list[str], filled: list[list[Prediction]]) -> Iterator[str]:
    for name, predictions in zip(names, filled, strict=True):
        shown = "   ".join(f"{p.text} {p.probability:.1%}" for p in predictions)
        yield f"  {name}: {shown}"


def _spell(tokenizer: Tokenizer, id: int) -> str:
    """A token as text without its space; ## in front if it continues a word of an alphabet.

    A token that is not text by itself, such as a space or a part of a character, is unchanged.
    """
    text = tokenizer.decode([id]).strip()
    if not text or REPLACEMENT in text:
        return tokenizer.piece(id)
    is_latin = text[0].isalpha() and text[0] < "\u2e80"
    return text if tokenizer.vocabulary.starts_word[id] or not is_latin else f"##{text}"


def _encode(text: str, tokenizer: Tokenizer, config: ModelConfig) -> Int[np.ndarray, "L"]:
    vocabulary = tokenizer.vocabulary
    ids = tokenizer.encode_with_specials(text)
    if vocabulary.mask_id not in ids:
        raise UserError(
            f"the text {text[:80]!r} has no {tokenizer.piece(vocabulary.mask_id)}: put one where "
            "a word is to be predicted"
        )
    row = np.concatenate([[vocabulary.cls_id], ids, [vocabulary.sep_id]]).astype(np.int32)
    if len(row) > config.max_position_embeddings:
        raise UserError(
            f"the text {text[:80]!r}... has {len(row)} tokens and the model takes at most "
            f"{config.max_position_embeddings}: shorten it"
        )
    return row


def _batch(
    rows: list[Int[np.ndarray, "_"]], tokenizer: Tokenizer, config: ModelConfig
) -> dict[str, Int[np.ndarray, "..."]]:
    """One batch (`bert_jax.stream.rows`) of `rows`, its sizes rounded up to powers of two."""
    positions = [np.flatnonzero(row == tokenizer.vocabulary.mask_id) for row in rows]
    length = min(round_up(max(map(len, rows)), 32), config.max_position_embeddings)
    predictions = round_up(max(map(len, positions)), 4)
    batch = pad_rows(rows, tokenizer.vocabulary.pad_id, length, round_up(len(rows), 1))
    batch["masked_positions"] = np.zeros((len(batch["input_ids"]), predictions), np.int32)
    for index, masked in enumerate(positions):
        batch["masked_positions"][index, : len(masked)] = masked
    return batch


@functools.partial(jax.jit, static_argnums=(0, 1))
def _most_probable(
    config: ModelConfig, top: int, params: Params, batch: Any, special: Int[Array, "S"]
) -> tuple[Float[Array, "B P top"], Int[Array, "B P top"]]:
    logits = nnx.merge(abstract(config)[0], params)(batch).mlm_logits
    logits = logits.at[..., special].set(-np.inf)
    probabilities, ids = jax.lax.top_k(jax.nn.softmax(logits), top)
    return probabilities, ids
