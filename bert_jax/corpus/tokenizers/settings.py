"""The settings of a tokenizer."""

import dataclasses

# Of `strip_accents`; auto is what BERT does: with `lowercase` and WordPiece, and not otherwise.
STRIP_ACCENTS = ("auto", "yes", "no")


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
    strip_accents: str = "auto"
