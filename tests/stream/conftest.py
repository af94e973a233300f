from pathlib import Path

import pytest
from ml_collections import ConfigDict

from bert_jax.config import default_config
from tests.stream.tiny_stores import MemoryStore, random_split


@pytest.fixture(scope="session")
def store() -> MemoryStore:
    splits = {"train": random_split(1, 41, 3), "heldout": random_split(2, 9, 2)}
    return MemoryStore(Path("memory"), {"fingerprint": "memory"}, splits)


@pytest.fixture
def config() -> ConfigDict:
    config = default_config()
    config.seed = 7
    config.total_steps = 50
    config.global_batch_size = 8
    config.stream.sequence_length = 32
    config.corpus.source = "a=text:a + b=text:b + c=text:c + d=text:d + lonely=text:l"
    return config
