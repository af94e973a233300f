"""The settings that decide the bytes of a token store."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class TokenizerSettings:
    """The fields of `config.tokenizer`."""

    kind: str
    path: str
    vocab_size: int
    lowercase: bool
    character_coverage: float
    sample_bytes: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of `config.corpus` that decide bytes, and those of `config.tokenizer`."""

    source: str
    language: str
    split_sentences: bool
    deduplicate: bool
    heldout_fraction: float
    tokenizer: TokenizerSettings


def from_config(config: ConfigDict) -> Settings:
    """The part of a config that a store depends on; light enough to send to every worker."""
    tokenizer = TokenizerSettings(**_fields(TokenizerSettings, config.tokenizer))
    return Settings(tokenizer=tokenizer, **_fields(Settings, config.corpus))


def _fields(kind: type, group: ConfigDict) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind) if field.name in group]
    return {name: group[name] for name in names}
