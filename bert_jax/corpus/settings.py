"""The settings of a token store, made once from the config; all but `workers` decide its bytes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.corpus.tokenizers.load import TRAINERS
from bert_jax.corpus.tokenizers.settings import STRIP_ACCENTS, TokenizerSettings

_CHOICES = {
    "documents": ("blank_line", "line", "file"),
    "lines": ("paragraph", "sentence"),
    "invalid_utf8": ("refuse", "replace", "drop"),
}

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


# What may differ between the sources of a mixture.
OPTIONS = (*(field.name for field in dataclasses.fields(Reading)), "language")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of `config.corpus` and of `config.tokenizer`."""

    source: str
    options: str
    reading: Reading
    minimum_characters: int
    language: str
    split_sentences: bool
    deduplicate: bool
    near_duplicates: float
    heldout_fraction: float
    tokenizer: TokenizerSettings
    workers: int = 0

    def deciding_bytes(self) -> dict[str, Any]:
        """All fields as the manifest lists them: without `workers`, which never changes a byte."""
        fields = dataclasses.asdict(self)
        del fields["workers"]
        return fields

    def of(self, source: str) -> "Settings":
        """The settings for one source of the mixture: its options take the place of fields."""
        options = dict(parse_options(self.options).get(source, {}))
        language = options.pop("language", self.language)
        reading = dataclasses.replace(self.reading, **options)
        return dataclasses.replace(self, language=language, reading=reading)


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a run's objective needs of a store.

    Attributes:
      documents: that each split must hold.
      sentences: that a document must have to give an example.
    """

    documents: int = 1
    sentences: int = 1


def from_config(config: ConfigDict) -> Settings:
    """The part of a config that a store depends on; small enough to send to every worker.

    Raises:
      UserError: a field has a value that it cannot have.
    """
    if "://" in config.corpus.directory:
        raise UserError(
            f"config.corpus.directory={config.corpus.directory!r}: a token store is mapped into "
            "memory, so it needs a directory of a (shared) file system; only sources are read "
            "from elsewhere"
        )
    for name, (least, greatest) in _RANGES.items():
        group, field = name.split(".")
        if not least <= (value := config[group][field]) <= greatest:
            allowed = f"from {least} to {greatest}" if greatest < math.inf else f"from {least} on"
            raise UserError(f"config.{name}={value}: write a number {allowed}")
    reading = Reading(**_fields(Reading, config.corpus))
    _refuse_unknown("config.corpus.", dataclasses.asdict(reading))
    for source, options in parse_options(config.corpus.options).items():
        _refuse_unknown(f"config.corpus.options: {source}: ", options)
    tokenizer = TokenizerSettings(**_fields(TokenizerSettings, config.tokenizer))
    for name, known in {"kind": TRAINERS, "strip_accents": STRIP_ACCENTS}.items():
        if (value := getattr(tokenizer, name)) not in known:
            raise UserError(f"config.tokenizer.{name}={value!r}: write one of {', '.join(known)}")
    return Settings(reading=reading, tokenizer=tokenizer, **_fields(Settings, config.corpus))


def parse_options(options: str) -> dict[str, dict[str, str]]:
    """The fields by source of `config.corpus.options`: `web: field=body, language=de; wiki: ...`.

    Raises:
      UserError: it cannot be read so, or has a field that is not one of a source.
    """
    by_source: dict[str, dict[str, str]] = {}
    for part in filter(None, map(str.strip, options.split(";"))):
        source, colon, fields = part.rpartition(": ")
        pairs = [[text.strip() for text in field.partition("=")] for field in fields.split(",")]
        if not colon or source in by_source or not all(map(all, pairs)):
            raise UserError(
                f"config.corpus.options: {part!r} cannot be read; write each source once, as in "
                "'web: field=body, language=de; wiki: documents=line'"
            )
        by_source[source] = {name: value for name, _, value in pairs}
        for name in by_source[source]:
            if name not in OPTIONS:
                raise UserError(
                    f"config.corpus.options: {source!r} has no option {name!r}; there is: "
                    f"{', '.join(OPTIONS)}"
                )
    return by_source


def _refuse_unknown(prefix: str, fields: Mapping[str, str]) -> None:
    for name, known in _CHOICES.items():
        if (value := fields.get(name, known[0])) not in known:
            raise UserError(f"{prefix}{name}={value!r}: write one of {', '.join(known)}")


def _fields(kind: type, group: ConfigDict) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind) if field.name in group]
    return {name: group[name] for name in names}
