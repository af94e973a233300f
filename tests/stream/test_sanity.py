from pathlib import Path

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.sanity import check_predictions
from bert_jax.stream.units import UNITS
from tests.stream.tiny_stores import MemoryStore, one_source, shard, vocabulary

UNK = 1


def store_of(tokens: np.ndarray) -> MemoryStore:
    """One document of these ids, in sentences of 100."""
    sentences = [tokens[i : i + 100].tolist() for i in range(0, len(tokens), 100)]
    return MemoryStore(Path("memory"), {}, {"train": one_source((shard([sentences]),))})


@pytest.mark.parametrize("unit", UNITS)
def test_text_in_one_long_word_trains_with_every_unit(config, unit):
    config.stream.mask_unit = unit
    config.stream.phases = ({"until": 0.5}, {"until": 1.0, "sequence_length": 16})
    # Ids that are multiples of 3 continue a word, as the tokens of DNA do.
    tokens = 6 + 3 * np.random.default_rng(0).integers(0, 15, 3000)
    batches = TrainBatches(store_of(tokens), parse(config).stream)
    check_predictions(batches, vocabulary())
    for phase in batches.phases:
        batch = batches.batch(phase.start)
        used = np.count_nonzero(batch["segment_ids"], axis=1)
        assert np.array_equal(batch["masked_weights"].sum(axis=1), np.rint(0.15 * used))


def test_a_corpus_that_the_tokenizer_does_not_cover_is_refused(config):
    tokens = np.full(3000, UNK)
    tokens[::200] = 7  # in every sixth row or so
    batches = TrainBatches(store_of(tokens), parse(config).stream)
    with pytest.raises(
        UserError, match=r"of the first 32 rows of phase 0 .*\(9\d% .*tokenizer\.path"
    ):
        check_predictions(batches, vocabulary())


def test_rows_of_half_unknown_text_are_no_reason_to_refuse(config):
    tokens = np.where(np.arange(3000) % 2, UNK, 7)
    check_predictions(TrainBatches(store_of(tokens), parse(config).stream), vocabulary())


def test_only_the_rows_in_question_are_built(store, config):
    config.global_batch_size = 10**9  # more than fits into memory
    check_predictions(TrainBatches(store, parse(config).stream), vocabulary())
