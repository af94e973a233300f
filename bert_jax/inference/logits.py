"""The logits of every token of a text."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.model import ModelConfig, Params, abstract


def logits(
    params: Params, config: ModelConfig, tokenizer: Tokenizer, texts: Sequence[str]
) -> list[Float[np.ndarray, "L V"]]:
    """For each text, the logits of the masked-language head at all its tokens, [CLS] and [SEP] too.

    A [MASK] typed in a text is one token.

    Raises:
      UserError: a text has more tokens than the model takes.
    """
    known, found = tokenizer.vocabulary, []
    for text in texts:
        ids = [known.cls_id, *tokenizer.encode_with_specials(text), known.sep_id]
        if len(ids) > config.max_position_embeddings:
            raise UserError(
                f"the text {text[:80]!r}... has {len(ids)} tokens and the model takes at most "
                f"{config.max_position_embeddings}: shorten it"
            )
        # Few shapes, so that few programs are compiled.
        length = min(max(32, 1 << (len(ids) - 1).bit_length()), config.max_position_embeddings)
        positions = np.arange(length, dtype=np.int32)[None]
        batch = {
            "input_ids": np.full((1, length), known.pad_id, np.int32),
            "token_type_ids": np.zeros((1, length), np.int32),
            "position_ids": positions,
            "segment_ids": (positions < len(ids)).astype(np.int32),
            "masked_positions": positions,
        }
        batch["input_ids"][0, : len(ids)] = ids
        found.append(np.asarray(_logits(config, params, batch))[0, : len(ids)])
    return found


@functools.partial(jax.jit, static_argnums=0)
def _logits(config: ModelConfig, params: Params, batch: Any) -> Float[Array, "B L V"]:
    return nnx.merge(abstract(config)[0], params)(batch).mlm_logits
