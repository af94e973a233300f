"""The second pass over the text: documents to token ids, in one shard a split."""

import dataclasses
import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert_jax.common.atomic import finished_directory, write_json
from bert_jax.corpus.filters.dedup import document_hash
from bert_jax.corpus.filters.heldout import HeldOut
from bert_jax.corpus.filters.selection import Kept
from bert_jax.corpus.filters.sentences import split_sentences
from bert_jax.corpus.settings import Settings
from bert_jax.corpus.sources import Bundle
from bert_jax.corpus.store import ARRAYS, SPLITS, file_sha256
from bert_jax.corpus.store.arrays import ShardWriter
from bert_jax.corpus.survey import read_documents
from bert_jax.corpus.tokenizers.base import Tokenizer, is_unspaced
from bert_jax.corpus.tokenizers.load import load_tokenizer

BATCH_CHARACTERS = 1 << 18  # encoded at once: large enough that Python's overhead does not matter
_COUNTS = ("documents", "sentences", "tokens")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The shards of a bundle, in one directory: `train/`, `heldout/`, `facts.json`."""

    directory: Path

    @property
    def facts(self) -> dict:
        """Counts and files of the bundle.

        `splits`: counts of each; `parts`: of each part, documents, sentences and tokens by split;
        `untokenized`: documents that gave no token; `files`: size and sha256 of each, relative to
        `directory`.
        """
        return json.loads((self.directory / "facts.json").read_text())


def encode(
    bundle: Bundle,
    directory: Path,
    settings: Settings,
    tokenizer: Path,
    kept: Kept,
    heldout: HeldOut,
) -> Encoded:
    """Reads a bundle again and writes its shards; returns at once when they are there.

    Args:
      bundle: what to read.
      directory: where the shards go.
      settings: of the store.
      tokenizer: directory of the tokenizer.
      kept: which of its paragraphs enter the store.
      heldout: which documents go to the held-out split.
    """
    if directory.is_dir():
        return Encoded(directory)
    with finished_directory(directory) as unfinished:
        _encode(bundle, unfinished, settings, _load_tokenizer(tokenizer), kept, heldout)
    return Encoded(directory)


# Each worker loads the tokenizer once.
_load_tokenizer = functools.lru_cache(maxsize=1)(load_tokenizer)


def _encode(
    bundle: Bundle,
    directory: Path,
    settings: Settings,
    tokenizer: Tokenizer,
    kept: Kept,
    heldout: HeldOut,
) -> None:
    facts: dict[str, Any] = {"splits": {}, "files": {}, "untokenized": 0}
    parts = len(bundle.parts)
    language = settings.language if settings.split_sentences and not bundle.in_sentences else None
    with (
        ShardWriter(directory / "train", tokenizer.vocabulary) as train,
        ShardWriter(directory / "heldout", tokenizer.vocabulary) as evaluation,
    ):
        batches = {
            "train": _Batch(train, tokenizer, language, parts),
            "heldout": _Batch(evaluation, tokenizer, language, parts),
        }
        for document in _kept_documents(bundle, settings, kept):
            split = "heldout" if heldout.holds(document.hash) else "train"
            batches[split].add(document.part, document.paragraphs)
        for split in SPLITS:
            batches[split].flush()
            facts["splits"][split] = batches[split].counts()
            facts["untokenized"] += batches[split].untokenized
        facts["parts"] = [
            {split: batches[split].counts_of(part) for split in SPLITS} for part in range(parts)
        ]
    for split in SPLITS:
        for name in ARRAYS:
            path = directory / split / f"{name}.npy"
            size = path.stat().st_size
            facts["files"][f"{split}/{name}.npy"] = {"bytes": size, "sha256": file_sha256(path)}
    write_json(directory / "facts.json", facts)


class _Document(NamedTuple):
    """A document that is kept: its part, the hash of all of it, the paragraphs that are kept."""

    part: int
    hash: int
    paragraphs: list[str]


def _kept_documents(bundle: Bundle, settings: Settings, kept: Kept) -> Iterator[_Document]:
    mask = kept.load()
    position = 0  # of the next paragraph in the mask
    for number, part in enumerate(bundle.parts):
        for document in read_documents(part, settings, Counter()):
            paragraphs = document
            if mask is not None:
                paragraphs = list(
                    itertools.compress(document, mask[position : position + len(document)])
                )
            position += len(document)
            if paragraphs:
                yield _Document(number, document_hash(document), paragraphs)


class _Batch:
    """Collects documents for a shard, and encodes them together once there are enough."""

    def __init__(self, shard: ShardWriter, tokenizer: Tokenizer, language: str | None, parts: int):
        """Paragraphs are cut into sentences by the rules of `language`; None: not at all."""
        self._shard = shard
        self._tokenizer = tokenizer
        self._language = language
        self._sentences: list[str] = []
        self._sentence_counts: list[int] = []
        self._origins: list[int] = []  # the part of each document
        self.untokenized = 0  # documents that are not stored because they gave no token
        self._stored = np.zeros((parts, len(_COUNTS)), np.int64)
        self._waiting = 0
        self._characters = 0
        self._unknown = 0

    def add(self, part: int, paragraphs: list[str]) -> None:
        self._origins.append(part)
        before = len(self._sentences)
        if self._language:
            for text in paragraphs:
                self._sentences += split_sentences(text, self._language)
        else:
            self._sentences += paragraphs
        if joint := self._tokenizer.joint:
            for index in range(before + 1, len(self._sentences)):
                if not is_unspaced(self._sentences[index]):
                    self._sentences[index] = joint + self._sentences[index]
        self._sentence_counts.append(len(self._sentences) - before)
        characters = sum(map(len, paragraphs))
        self._characters += characters
        self._waiting += characters
        if self._waiting >= BATCH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if not self._sentences:
            return
        ids = self._tokenizer.encode(self._sentences)
        unknown = self._tokenizer.vocabulary.unk_id
        self._unknown += int(np.count_nonzero(np.concatenate(ids) == unknown))
        stored = self._shard.append(ids, np.array(self._sentence_counts, np.int64))
        self.untokenized += int(np.count_nonzero(stored[:, 0] == 0))
        counts = np.column_stack([stored[:, 0] > 0, stored])
        np.add.at(self._stored, np.array(self._origins), counts)
        self._sentences, self._sentence_counts, self._origins = [], [], []
        self._waiting = 0

    def counts(self) -> dict[str, int]:
        stored = dict(zip(_COUNTS, self._stored.sum(axis=0).tolist(), strict=True))
        return stored | {"characters": self._characters, "unknown": self._unknown}

    def counts_of(self, part: int) -> dict[str, int]:
        return dict(zip(_COUNTS, self._stored[part].tolist(), strict=True))
