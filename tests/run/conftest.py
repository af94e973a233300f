"""Tokenizers and small encoders, made once."""

from tests.encoders import classic, redrawn, tokenizer_directory, wordpiece_directory  # noqa: F401
