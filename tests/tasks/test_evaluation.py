"""Batches that every process has are spread over the devices of all of them."""

import pytest

from tests.runs import two_processes

PROGRAM = """
import numpy as np
from bert_jax.tasks.evaluation import place
from bert_jax.training import sharding
from bert_jax.training.settings import MeshSettings

sharding.start_distributed()
placed = place(sharding.make_mesh(MeshSettings()), {"weight": np.arange(8, dtype=np.float32)})
[shard] = placed["weight"].addressable_shards
print(shard.index[0].start or 0, shard.data.astype(int).tolist())
"""


@pytest.mark.slow
def test_each_process_places_its_own_rows_of_a_batch():
    said = two_processes(PROGRAM)
    assert "0 [0, 1, 2, 3]" in said
    assert "4 [4, 5, 6, 7]" in said
