import dataclasses

import numpy as np

from bert_jax.config import parse
from bert_jax.corpus.store import Split
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import identity
from tests.stream.tiny_stores import MemoryStore

STEP = 20


def with_another_token(store: MemoryStore, place: int) -> MemoryStore:
    """The store with another piece at a place of its first shard, and the fingerprint as it was."""
    train = store.split("train")
    tokens = train.shards[0].tokens.copy()
    tokens[place] = 5 if tokens[place] != 5 else 6
    shards = (dataclasses.replace(train.shards[0], tokens=tokens), *train.shards[1:])
    return dataclasses.replace(store, splits=store.splits | {"train": Split(shards, train.sources)})


def test_a_change_in_any_row_of_the_last_batch_is_another_stream(store, config):
    before = TrainBatches(store, parse(config).stream)
    saved = identity(store, before, STEP)
    batch = before.batch(STEP - 1)
    seen = set()
    for place in range(1, store.split("train").shards[0].num_tokens, 7):
        changed_store = with_another_token(store, place)
        after = TrainBatches(changed_store, parse(config).stream)
        differs = [
            np.any(array != batch[name], axis=1) for name, array in after.batch(STEP - 1).items()
        ]
        changed = np.flatnonzero(np.any(differs, axis=0))
        assert (identity(changed_store, after, STEP) != saved) == bool(len(changed))
        seen.update(changed.tolist())
    assert len(seen) >= 3
