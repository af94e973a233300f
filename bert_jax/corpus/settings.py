"""The settings that decide the bytes of a token store."""

import dataclasses
import math
from typing import Any

from ml_collections import ConfigDict

from bert_jax.errors import UserError

LINES = ("paragraph", "sentence")
INVALID_UTF8 = ("refuse", "replace", "drop")
TOKENIZER_KINDS = ("unigram", "bpe", "wordpiece")


# Numbers: the least and the greatest value.
_RANGES = {
    "corpus.minimum_characters": (0, math.inf),
    "corpus.near_duplicates": (0, 1),
    "corpus.heldout_fraction": (0, 1),
    "corpus.workers": (0, math.inf),
    "tokenizer.vocab_size": (1, math.inf),
    "tokenizer.character_coverage": (0.98, 1),  # what sentencepiece allows
    "tokenizer.sample_bytes": (1, math.inf),
}


@dataclasses.dataclass(frozen=True)
class Reading:
    """The fields of `config.corpus` that say how files are read."""

    documents: str
    field: str
    invalid_utf8: str
    data_dir: str = ""
    lines: str = "paragraph"

    @property
    def decode_errors(self) -> str:
        """For `bytes.decode`: bad bytes raise, or stay to be told in the text."""
        return "strict" if self.invalid_utf8 == "refuse" else "surrogateescape"


@dataclasses.dataclass(frozen=True)
class TokenizerSettings:
    """The fields of `config.tokenizer`."""

    kind: str
    path: str
    vocab_size: int
    lowercase: bool
    character_coverage: float
    sample_bytes: int
    byte_fallback: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of `config.corpus` that decide bytes, and those of `config.tokenizer`."""

    source: str
    reading: Reading
    minimum_characters: int
    language: str
    split_sentences: bool
    deduplicate: bool
    near_duplicates: float
    heldout_fraction: float
    tokenizer: TokenizerSettings


def from_config(config: ConfigDict) -> Settings:
    """The part of a config that a store depends on; light enough to send to every worker.

    Raises:
      UserError: a field has a value that it cannot have.
    """
    for name, (least, greatest) in _RANGES.items():
        group, field = name.split(".")
        if not least <= (value := config[group][field]) <= greatest:
            allowed = f"from {least} to {greatest}" if greatest < math.inf else f"from {least} on"
            raise UserError(f"config.{name}={value}: write a number {allowed}")
    reading = Reading(**_fields(Reading, config.corpus))
    if reading.invalid_utf8 not in INVALID_UTF8:
        raise UserError(
            f"config.corpus.invalid_utf8={reading.invalid_utf8!r}: write one of "
            f"{', '.join(INVALID_UTF8)}"
        )
    if reading.lines not in LINES:
        raise UserError(f"config.corpus.lines={reading.lines!r}: write one of {', '.join(LINES)}")
    tokenizer = TokenizerSettings(**_fields(TokenizerSettings, config.tokenizer))
    if tokenizer.kind not in TOKENIZER_KINDS:
        raise UserError(
            f"config.tokenizer.kind={tokenizer.kind!r}: write one of {', '.join(TOKENIZER_KINDS)}"
        )
    return Settings(reading=reading, tokenizer=tokenizer, **_fields(Settings, config.corpus))


def _fields(kind: type, group: ConfigDict) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind) if field.name in group]
    return {name: group[name] for name in names}
