"""Tiny token stores in memory, whose ids show where they come from."""

import dataclasses
import functools
import itertools
import random

import numpy as np

from bert_jax.corpus.store import Shard, Split, TokenStore
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.randomness import Draw, bits

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


def one_source(shards: tuple[Shard, ...]) -> Split:
    """A split of the shards of one source."""
    return Split(shards, ("all",) * len(shards))


def numbered_split(sentence_lengths: list[list[list[int]]]) -> Split:
    """Shards of documents of sentences of these lengths; every token of the split is unique."""
    ids = itertools.count(5)
    return one_source(
        tuple(
            shard(
                [[[next(ids) for _ in range(n)] for n in document] for document in part], np.uint32
            )
            for part in sentence_lengths
        )
    )


def texts(split: Split) -> list[list[int]]:
    """The ids of every document, in the order of the shards, without frames."""
    return [
        part.tokens[begin + 1 : end - 1].tolist()
        for part in split.shards
        for begin, end in itertools.pairwise(part.document_offsets)
    ]


def random_split(seed: int, documents: int, shards: int) -> Split:
    """One source of random documents."""
    return one_source(random_shards(seed, documents, shards))


def random_shards(
    seed: int, documents: int, shards: int, low: int = 5, high: int = 64
) -> tuple[Shard, ...]:
    """Documents of 1 to 9 sentences of 1 to 24 ids; the same in every version."""
    # Of Python's generators only `random()` is promised never to change.
    uniform = random.Random(seed).random

    def integer(low: int, high: int) -> int:
        return low + int(uniform() * (high - low))

    made = [
        [[integer(low, high) for _ in range(integer(1, 25))] for _ in range(integer(1, 10))]
        for _ in range(documents)
    ]
    return tuple(shard(made[i::shards]) for i in range(shards))


def draw(rows: int, seed: int = 0, first_example: int = 0) -> Draw:
    """The random numbers of consecutive examples."""
    return lambda purpose, width: bits(seed, purpose, first_example, rows, width)


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryStore(TokenStore):
    """A store without files."""

    splits: dict[str, Split] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        return vocabulary()

    def split(self, name: str) -> Split:
        return self.splits[name]
