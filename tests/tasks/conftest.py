"""A tokenizer for tasks."""

import pytest

from bert_jax.corpus.tokenizers.load import load_tokenizer
from tests.encoders import tokenizer_directory  # noqa: F401


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory):
    return load_tokenizer(tokenizer_directory)
