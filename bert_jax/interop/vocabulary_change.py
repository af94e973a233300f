"""Extends or replaces the vocabulary of a trained encoder.

A token that both vocabularies have keeps its vector. A new one starts as the mean of the vectors of
the old tokenizer's pieces for its text, so that it means about what its text meant before (Hewitt
2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html), or at random.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.model import ModelConfig, Params
from bert_jax.model.heads import HEADS

NEW_EMBEDDINGS = ("mean", "random")
REPLACEMENT = "\ufffd"  # what decoding gives for bytes that are not UTF-8
SHOWN = 8  # tokens of each kind that a report names


class VocabularyChange(NamedTuple):
    """What became of the tokens.

    Attributes:
      kept: ids in the new vocabulary of the tokens that the old one has, too.
      old_ids: what `kept` were in the old vocabulary.
      added: ids in the new vocabulary of the others.
      pieces: the old tokenizer's ids for the text of each of `added`; empty: it knows none of it.
      dropped: ids in the old vocabulary of the tokens that the new one lacks.
    """

    kept: list[int]
    old_ids: list[int]
    added: list[int]
    pieces: list[Int[np.ndarray, "_"]]
    dropped: list[int]


def compare(old: Tokenizer, new: Tokenizer) -> VocabularyChange:
    """Which tokens of `new` are in `old`, by role for the special ones and by text for the rest."""
    of_old = {key: id for id, key in _keys(old).items()}
    kept, old_ids, added = [], [], []
    for id, key in _keys(new).items():
        if key in of_old:
            kept.append(id)
            old_ids.append(of_old[key])
        else:
            added.append(id)
    dropped = sorted(set(of_old.values()) - set(old_ids))
    is_start = new.vocabulary.starts_word
    texts = [(old.joint if is_start[id] else "") + _text(new, id) for id in added]
    unknown = old.vocabulary.unk_id
    pieces = [ids[ids != unknown] for ids in old.encode(texts)] if texts else []
    return VocabularyChange(kept, old_ids, added, pieces, dropped)


def describe(change: VocabularyChange, old: Tokenizer, new: Tokenizer, vectors: str) -> list[str]:
    """Lines that say how many tokens were kept, added and dropped, and name some."""
    means = sum(len(pieces) > 0 for pieces in change.pieces) if vectors == "mean" else 0
    return [
        f"Tokens kept: {len(change.kept):,}.",
        f"Added: {len(change.added):,}, of which {means:,} start as the mean of their old pieces "
        f"and {len(change.added) - means:,} at random{_some(new, change.added)}.",
        f"Dropped: {len(change.dropped):,}{_some(old, change.dropped)}.",
    ]


def apply(
    change: VocabularyChange,
    params: Params,
    model: ModelConfig,
    new: Tokenizer,
    vectors: str = "mean",
    seed: int = 0,
) -> tuple[ModelConfig, Params]:
    """The encoder with the new vocabulary.

    Args:
      change: from `compare`.
      params: of the encoder, with the old vocabulary; unchanged.
      model: the encoder.
      new: the new tokenizer.
      vectors: how a new token's vector starts, one of `NEW_EMBEDDINGS`.
      seed: of random vectors.

    Raises:
      UserError: the head has parameters by frequency, which cannot follow.
    """
    if not HEADS[model.head].is_exportable:
        raise UserError(
            f"config.model.head is {model.head!r}: its classes follow the frequency of the old "
            "tokens, so the vocabulary cannot be changed"
        )
    size = new.vocabulary.size
    tokens = params["encoder"]["embeddings"]["tokens"]["embedding"]
    bias = params["mlm_head"]["bias"]
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((size, model.hidden_size), np.float32)
    table: Float[np.ndarray, "V D"] = drawn * np.float32(model.initializer_range)
    offsets: Float[np.ndarray, V] = np.zeros(size, np.float32)
    table[change.kept], offsets[change.kept] = tokens[change.old_ids], bias[change.old_ids]
    if vectors == "mean":
        for id, pieces in zip(change.added, change.pieces, strict=True):
            if len(pieces):
                table[id], offsets[id] = tokens[pieces].mean(axis=0), bias[pieces].mean()
    encoder = params["encoder"]
    embeddings = encoder["embeddings"] | {"tokens": {"embedding": table}}
    changed = params | {
        "encoder": encoder | {"embeddings": embeddings},
        "mlm_head": params["mlm_head"] | {"bias": offsets},
    }
    return dataclasses.replace(model, vocab_size=size, token_order=()), changed


def _keys(tokenizer: Tokenizer) -> dict[int, tuple[object, str]]:
    """What identifies each token across tokenizers: its role, or whether it begins a word and how.

    Unused ids have none.
    """
    known = tokenizer.vocabulary
    roles = {getattr(known, f"{role}_id"): role for role in ("pad", "unk", "cls", "sep", "mask")}
    keys: dict[int, tuple[object, str]] = {}
    for id in range(known.size):
        piece = tokenizer.piece(id)
        if id in roles:
            keys[id] = ("role", roles[id])
        elif known.is_special[id]:
            if piece:
                keys[id] = ("special", piece)
        else:
            text = _text(tokenizer, id)
            is_text = text.strip() and REPLACEMENT not in text
            keys[id] = (bool(known.starts_word[id]), text) if is_text else ("piece", piece)
    return keys


def _text(tokenizer: Tokenizer, id: int) -> str:
    text = tokenizer.decode([id]).strip()
    return text if tokenizer.vocabulary.starts_word[id] else text.removeprefix("##") or text


def _some(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The first tokens of a list, to read."""
    more = ", ..." if len(ids) > SHOWN else ""
    return f" ({', '.join(tokenizer.piece(id) for id in ids[:SHOWN])}{more})" if ids else ""
