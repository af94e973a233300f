"""Small corpora, made of nothing but a seed."""

import random
from pathlib import Path

from ml_collections import ConfigDict

from bert_jax.config import default_config
from bert_jax.corpus import build
from bert_jax.corpus.settings import from_config
from bert_jax.corpus.sources import list_bundles
from bert_jax.corpus.store import TokenStore
from bert_jax.corpus.workers import Engine
from bert_jax.training.objectives import parse_objective

CONSONANTS = "bcdfghklmnprstvw"
VOWELS = "aeiou"
SYLLABLES = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS]
WORDS = sorted({"".join(random.Random(i).choices(SYLLABLES, k=1 + i % 3)) for i in range(600)})


def documents(count: int, seed: int = 0) -> list[list[str]]:
    """Documents of one to five paragraphs of one to six sentences."""
    random_words = random.Random(seed)

    def sentence() -> str:
        words = random_words.choices(WORDS, k=random_words.randint(4, 14))
        return " ".join([words[0].capitalize(), *words[1:]]) + random_words.choice(".?!")

    def paragraph() -> str:
        return " ".join(sentence() for _ in range(random_words.randint(1, 6)))

    return [[paragraph() for _ in range(random_words.randint(1, 5))] for _ in range(count)]


def write_text(path: Path, texts: list[list[str]]) -> Path:
    """Writes documents as bert_jax reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join("\n".join(text) for text in texts) + "\n", encoding="utf-8")
    return path


def tiny_config(source: object, **fields: object) -> ConfigDict:
    """A config for a tiny corpus: 200 pieces, a fifth held out, no extra processes.

    `fields` are names such as `corpus_workers=2` or `tokenizer_vocab_size=100`.
    """
    config = default_config()
    config.corpus.source = source
    config.corpus.heldout_fraction = 0.2
    config.corpus.workers = 1
    config.tokenizer.vocab_size = 200
    config.tokenizer.character_coverage = 1.0
    for name, value in fields.items():
        group, _, field = name.partition("_")
        config[group][field] = value
    return config


def build_store(
    config: ConfigDict, directory: str | Path, engine: Engine | None = None
) -> TokenStore:
    """The store of a config, as the commands make it."""
    needs = parse_objective(config).needs
    return build.build_store(from_config(config), directory, needs, engine)


def read(source: str, **fields: object) -> list[list[str]]:
    """The documents of a source as its parts give them; `fields` are those of `tiny_config`."""
    bundles = list_bundles(from_config(tiny_config(source, **fields)))
    parts = (part for bundle in bundles for part in bundle.parts)
    return [document for part in parts for document in part.documents()]


def third(total: int) -> int:
    """A `files.range_bytes` with which each of four files of about one size makes a shard."""
    return total // 3


# The same for a new process.
FILES_APART = (
    "from bert_jax.corpus.readers import files; from tests.corpus import corpora; "
    "files.range_bytes = corpora.third"
)


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory with their bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
