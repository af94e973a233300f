"""Batches of random tokens in the shape of real ones, for measuring a step without a corpus."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from bert_jax.corpus.store import Shard, Split, TokenStore
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch
from bert_jax.stream.settings import StreamSettings
from bert_jax.training.objectives import Objective

FIRST_TOKEN = 5  # after the special ones
SENTENCE_LENGTHS = (5, 30)
MOST_TOKENS = 2**22


class RandomStore(TokenStore):
    """A token store in memory, of random documents of random sentences.

    Raises:
      ValueError: `vocab_size` leaves no tokens besides the special ones.
    """

    def __init__(self, vocab_size: int, tokens: int, document_lengths: tuple[int, int], seed: int):
        """Draws the documents.

        Args:
          vocab_size: tokens of the vocabulary; sentences use all but the special ones, uniformly.
          tokens: about how many in all.
          document_lengths: the least and the greatest, drawn uniformly.
          seed: of the draw.
        """
        super().__init__(Path("random"), {})
        if vocab_size <= FIRST_TOKEN:
            raise ValueError(f"a vocabulary of {vocab_size} has only special tokens")
        random = np.random.default_rng(seed)
        ids = np.arange(vocab_size)
        is_special = ids < FIRST_TOKEN
        self._vocabulary = Vocabulary(vocab_size, 0, 1, 2, 3, 4, is_special, ~is_special)
        low, high = document_lengths
        documents = max(4, 2 * tokens // (low + high))
        lengths = random.integers(low, high + 1, documents)
        offsets = np.cumsum([0, *lengths])
        array = random.integers(FIRST_TOKEN, vocab_size, offsets[-1]).astype(np.uint32)
        array[offsets[:-1]], array[offsets[1:] - 1] = 2, 3  # [CLS], [SEP]
        sentences = [
            np.arange(begin + 1, end - 2, random.integers(*SENTENCE_LENGTHS))
            for begin, end in itertools.pairwise(offsets)
        ]
        self._split = Split(
            (
                Shard(
                    tokens=array,
                    document_offsets=offsets,
                    sentence_offsets=np.concatenate(sentences),
                    document_sentences=np.cumsum([0, *map(len, sentences)]),
                ),
            ),
            ("random",),
        )

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def split(self, name: str) -> Split:
        """The same documents, whatever the name."""
        return self._split


def random_batches(
    objective: Objective, phase: Phase, vocab_size: int, count: int, seed: int = 0
) -> list[Batch]:
    """Global batches of random documents, made and masked as those of a run.

    Rows of several documents have about four; pairs are taken from documents that fill a row.

    Args:
      objective: of the run.
      phase: gives the shapes and the masking.
      vocab_size: tokens of the vocabulary.
      count: of batches.
      seed: of the documents.
    """
    length = phase.sequence_length
    of_documents = (8, length // 2) if objective.rows == "packed" else (length, 3 * length)
    tokens = min(MOST_TOKENS, count * phase.global_batch_size * length)
    store = RandomStore(vocab_size, tokens, of_documents, seed)
    phase = dataclasses.replace(phase, index=0, start=0, stop=count, first_example=0, weights=())
    batches = TrainBatches(store, StreamSettings(seed, objective, (phase,)))
    return [batches.batch(step) for step in range(count)]
