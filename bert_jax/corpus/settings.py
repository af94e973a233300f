"""The settings of a token store, parsed from the config; all but `workers` decide its bytes."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.corpus.filters.languages import check_language
from bert_jax.corpus.tokenizers.load import TRAINERS
from bert_jax.corpus.tokenizers.settings import STRIP_ACCENTS, TokenizerSettings

_CHOICES = {
    "documents": ("blank_line", "line", "file"),
    "lines": ("paragraph", "sentence"),
    "invalid_utf8": ("refuse", "replace", "drop"),
    "bad_records": ("refuse", "skip"),
    "quoting": ("auto", "on", "off"),
}

# Smallest and largest value of the numbers.
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
    bad_records: str = "refuse"
    quoting: str = "auto"

    @property
    def decode_errors(self) -> str:
        """For `bytes.decode`: bad bytes raise, or become lone surrogates in the text."""
        return "strict" if self.invalid_utf8 == "refuse" else "surrogateescape"


# What may differ between the sources of a mixture.
OPTIONS = (*(field.name for field in dataclasses.fields(Reading)), "language")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of `config.corpus` and of `config.tokenizer`.

    `source` and `options` are text, however the config gives them: see `source_text`.
    """

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
        """The settings for one source of the mixture: its options replace fields."""
        options = dict(parse_options(self.options).get(source, {}))
        language = options.pop("language", self.language)
        reading = dataclasses.replace(self.reading, **options)
        return dataclasses.replace(self, language=language, reading=reading)


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a run's objective requires of a token store.

    Attributes:
      objective: its name in the config, for messages.
      documents: least number in each split.
      sentences: least number in a document that gives an example.
    """

    objective: str = "packed"
    documents: int = 1
    sentences: int = 1


def from_config(config: ConfigDict) -> Settings:
    """The settings of a store, small enough to send to every worker.

    Raises:
      UserError: a field has an invalid value.
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
    check_language(config.corpus.language, "config.corpus.language")
    source, of_sources = source_text(config.corpus.source)
    options = options_text(config.corpus.options, of_sources)
    for name, fields in parse_options(options).items():
        _refuse_unknown(f"config.corpus.options: {name}: ", fields)
        if "language" in fields:
            check_language(fields["language"], f"config.corpus.options: {name}: language")
    tokenizer = TokenizerSettings(**_fields(TokenizerSettings, config.tokenizer))
    for name, known in {"kind": TRAINERS, "strip_accents": STRIP_ACCENTS}.items():
        if (value := getattr(tokenizer, name)) not in known:
            raise UserError(f"config.tokenizer.{name}={value!r}: write one of {', '.join(known)}")
    others = _fields(Settings, config.corpus)
    others.update(source=source, options=options)
    return Settings(reading=reading, tokenizer=tokenizer, **others)


def source_text(value: Any) -> tuple[str, dict[str, dict[str, str]]]:
    """`config.corpus.source` as text, and the options that are given with a source in it.

    Text stays as it is. A list holds sources, each as text or as a dict of `source`, `name`,
    `share` and any of OPTIONS: `{"source": "jsonl:/web/*.jsonl", "name": "web", "field": "body"}`.
    A list becomes text with ` + ` between the sources, or JSON if a source contains ` + `. A list
    may also be given as JSON.

    Raises:
      UserError: it is none of these.
    """
    if isinstance(value, str):
        if not value.startswith("["):
            return value, {}
        value = _from_json("source", value)
    if isinstance(value, ConfigDict | Mapping):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f"config.corpus.source={value!r}: write a source, or a list of sources")
    texts: list[str] = []
    options: dict[str, dict[str, str]] = {}
    for source in value:
        if isinstance(source, str):
            texts.append(source)
            continue
        text, name, fields = _one_source(source)
        texts.append(text)
        if fields:
            options[name] = fields
    if any(" + " in text for text in texts):
        return json.dumps(texts), options
    return " + ".join(texts), options


def _one_source(source: Any) -> tuple[str, str, dict[str, str]]:
    """The text, the name and the options of a source that is a dict."""
    fields = source.to_dict() if isinstance(source, ConfigDict) else source
    if not isinstance(fields, Mapping) or not isinstance(fields.get("source"), str):
        raise UserError(
            f"config.corpus.source: {source!r} is no source; write text, or a dict as in "
            "{'source': 'jsonl:/web/*.jsonl', 'name': 'web', 'field': 'body'}"
        )
    fields = dict(fields)
    text = location = fields.pop("source")
    if "share" in fields:
        text = f"{fields.pop('share')}*{text}"
    name = fields.pop("name", location)
    if name != location:
        text = f"{name}={text}"
    return text, name, fields


def options_text(value: Any, of_sources: Mapping[str, Mapping[str, str]]) -> str:
    """`config.corpus.options` as text, merged with the options that were given with the sources.

    Text without options to merge is unchanged; everything else becomes JSON.

    Raises:
      UserError: it is neither, or sets an option twice.
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = _from_json("options", value)
    if isinstance(value, str) and not of_sources:
        return value
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    given = parse_options(value) if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not all(
        isinstance(fields, Mapping) for fields in given.values()
    ):
        raise UserError(
            f"config.corpus.options={value!r}: write text, or a dict as in {{'web': {{'field': "
            "'body'}}"
        )
    merged = {source: dict(fields) for source, fields in given.items()}
    for source, fields in of_sources.items():
        for name, text in fields.items():
            if merged.setdefault(source, {}).setdefault(name, text) != text:
                raise UserError(
                    f"config.corpus.options: {name!r} of {source!r} is {merged[source][name]!r}, "
                    f"and {text!r} in config.corpus.source; write it in one place"
                )
    return json.dumps(merged, sort_keys=True) if merged else ""


def _from_json(field: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"config.corpus.{field}={text!r} is no JSON ({error})") from error


def parse_options(options: str) -> dict[str, dict[str, str]]:
    """The fields by source of `config.corpus.options`: `web: field=body, language=de; wiki: ...`.

    Args:
      options: what `options_text` gave: such text, or JSON.

    Raises:
      UserError: it cannot be parsed, or has a field that is not in OPTIONS.
    """
    if options.lstrip().startswith("{"):
        by_source = _from_json("options", options)
    else:
        by_source = _parse_grammar(options)
    for source, fields in by_source.items():
        for name, value in fields.items():
            if name not in OPTIONS:
                raise UserError(
                    f"config.corpus.options: {source!r} has no option {name!r}; there is: "
                    f"{', '.join(OPTIONS)}"
                )
            if not isinstance(value, str):
                raise UserError(
                    f"config.corpus.options: {name}={value!r} of {source!r}: write a string"
                )
    return by_source


def _parse_grammar(options: str) -> dict[str, dict[str, str]]:
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
    return by_source


def _refuse_unknown(prefix: str, fields: Mapping[str, str]) -> None:
    for name, known in _CHOICES.items():
        if (value := fields.get(name, known[0])) not in known:
            raise UserError(f"{prefix}{name}={value!r}: write one of {', '.join(known)}")


def _fields(kind: type, group: ConfigDict) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind) if field.name in group]
    return {name: group[name] for name in names}
