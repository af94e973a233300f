"""Tiny token stores in memory, whose ids tell where they come from."""

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from bert_jax.config import default_config
from bert_jax.corpus.store import Shard, Split, TokenStore
from bert_jax.corpus.vocabulary import Vocabulary

CLS, SEP = 2, 3


def vocabulary(size: int = 64) -> Vocabulary:
    ids = np.arange(size)
    return Vocabulary(
        size=size,
        pad_id=0,
        unk_id=1,
        cls_id=CLS,
        sep_id=SEP,
        mask_id=4,
        is_special=ids < 5,
        starts_word=(ids >= 5) & (ids % 3 != 0),
    )


def shard(documents: list[list[list[int]]], dtype: type = np.uint16) -> Shard:
    """A shard of documents of sentences of ids."""
    tokens: list[int] = []
    document_offsets, sentence_offsets, document_sentences = [0], [], [0]
    for document in documents:
        tokens.append(CLS)
        for sentence in document:
            sentence_offsets.append(len(tokens))
            tokens.extend(sentence)
        tokens.append(SEP)
        document_offsets.append(len(tokens))
        document_sentences.append(len(sentence_offsets))
    return Shard(
        tokens=np.array(tokens, dtype),
        document_offsets=np.array(document_offsets, np.int64),
        sentence_offsets=np.array(sentence_offsets, np.int64),
        document_sentences=np.array(document_sentences, np.int64),
    )


def numbered_split(sentence_lengths: list[list[list[int]]]) -> Split:
    """Shards of documents of sentences of these lengths; every token of the split is unique."""
    ids = itertools.count(5)
    return Split(
        tuple(
            shard(
                [[[next(ids) for _ in range(n)] for n in document] for document in part], np.uint32
            )
            for part in sentence_lengths
        )
    )


def random_split(seed: int, documents: int, shards: int, size: int = 64) -> Split:
    """Documents of 1 to 9 sentences of 1 to 24 ordinary ids."""
    draw = np.random.default_rng(seed)
    made = [
        [draw.integers(5, size, draw.integers(1, 25)).tolist() for _ in range(draw.integers(1, 10))]
        for _ in range(documents)
    ]
    return Split(tuple(shard(made[i::shards]) for i in range(shards)))


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryStore(TokenStore):
    """A store that never was on disk."""

    splits: dict[str, Split] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        return vocabulary()

    def split(self, name: str) -> Split:
        return self.splits[name]


@pytest.fixture(scope="session")
def store() -> MemoryStore:
    splits = {"train": random_split(1, 40, 3), "heldout": random_split(2, 9, 2)}
    return MemoryStore(Path("memory"), {"fingerprint": "memory"}, splits)


@pytest.fixture
def config() -> ConfigDict:
    config = default_config()
    config.seed = 7
    config.total_steps = 50
    config.global_batch_size = 8
    config.stream.sequence_length = 32
    return config
