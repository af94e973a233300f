"""Tokenizers and small encoders, made once."""

from tests.encoders import (  # noqa: F401
    bpe_tokenizer_directory,
    byte_level_directory,
    classic,
    family,
    lowercase_tokenizer_directory,
    model_config,
    modern,
    redrawn,
    tokenizer_directory,
    vocabulary_directory,
    wordpiece_directory,
)
