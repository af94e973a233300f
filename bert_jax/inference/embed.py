"""Vectors of sentences: the mean of a text's hidden states, or that of [CLS]."""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.inference.rows import length_buckets, pad_rows, round_up
from bert_jax.model import ModelConfig, Params, abstract

POOLINGS = ("mean", "cls")
WINDOW = 64  # batches that are sorted by length together


def embed(
    params: Params,
    config: ModelConfig,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    pooling: str = "mean",
    normalize: bool = False,
    max_length: int = 512,
    batch_size: int = 64,
) -> Iterator[Float[np.ndarray, "n D"]]:
    """The vectors of texts in their order, some thousand at a time, as the texts come.

    Args:
      params: of the encoder.
      config: the encoder.
      tokenizer: that it was trained with.
      texts: longer ones are cut at `max_length`.
      pooling: "mean" of all tokens, special ones included, as sentence-transformers has it; or
        "cls", the first token alone.
      normalize: divide each vector by its length.
      max_length: tokens of a text, special ones included.
      batch_size: rows of a batch.
    """
    known = tokenizer.vocabulary
    most = min(max_length, config.max_position_embeddings)
    texts = iter(texts)
    while chunk := list(itertools.islice(texts, WINDOW * batch_size)):
        rows = [
            np.concatenate([[known.cls_id], ids[: most - 2], [known.sep_id]]).astype(np.int32)
            for ids in tokenizer.encode(chunk)
        ]
        vectors = np.empty((len(rows), config.hidden_size), np.float32)
        for length, group in length_buckets([len(row) for row in rows], batch_size, most):
            count = min(batch_size, round_up(len(group), 8))
            batch = pad_rows([rows[index] for index in group], known.pad_id, length, count)
            pooled = _pooled(config, pooling, normalize, params, batch)
            vectors[group] = np.asarray(pooled)[: len(group)]
        yield vectors


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _pooled(
    config: ModelConfig, pooling: str, normalize: bool, params: Params, batch: Any
) -> Float[Array, "B D"]:
    hidden = nnx.merge(abstract(config)[0], params).hidden(batch).astype(jnp.float32)
    if pooling == "cls":
        pooled = hidden[:, 0]
    else:
        is_text = (batch["segment_ids"] > 0)[:, :, None]
        pooled = jnp.where(is_text, hidden, 0).sum(1) / jnp.maximum(is_text.sum(1), 1)
    if normalize:
        pooled /= jnp.maximum(jnp.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
    return pooled
