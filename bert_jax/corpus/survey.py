"""The first pass over the text: hashes, counts and a sample, before anything is removed.

Duplicates are known only after all parts have been read, and the tokenizer must exist before the
second pass, so the first pass only collects what these need.
"""

import dataclasses
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt32, UInt64

from bert_jax.common.atomic import finished_directory
from bert_jax.corpus.filters.cleaning import (
    MAX_DOCUMENT,
    clean_documents,
    has_bad_bytes,
    replace_bad_bytes,
)
from bert_jax.corpus.filters.dedup import document_hash, text_hash
from bert_jax.corpus.filters.heldout import heldout_below
from bert_jax.corpus.filters.near_duplicates import PERMUTATIONS, signature
from bert_jax.corpus.readers.files import FileRange
from bert_jax.corpus.readers.text import TextPart
from bert_jax.corpus.settings import Reading, Settings
from bert_jax.corpus.sources import Bundle, Part
from bert_jax.corpus.store.arrays import write_array

# How `text.txt` is written, whatever the format of its source.
_KEPT_TEXT = Reading(documents="blank_line", field="", invalid_utf8="refuse")

# Why documents are dropped before duplicates are looked for, and what is changed in others.
DROPPED = ("bad_records", "invalid_documents", "empty_documents", "short_documents")
CHANGED = ("replaced_documents", "cut_documents", "removed_characters")


@dataclasses.dataclass(frozen=True)
class Survey:
    """The results of the first pass over a bundle of parts, in one directory."""

    directory: Path

    @property
    def counts(self) -> dict[str, int]:
        """What was read, and what was done with it.

        `documents_read`, where each part of a document that was cut counts as one; `documents`
        and `characters` of the clean text; documents (characters) by each cause in DROPPED and
        CHANGED.
        """
        return json.loads((self.directory / "counts.json").read_text())

    @property
    def documents_by_part(self) -> list[int]:
        """Clean documents of each part."""
        return json.loads((self.directory / "parts.json").read_text())

    @property
    def document_hashes(self) -> UInt64[np.ndarray, "_"]:
        return _mapped(self.directory / "documents.npy")

    @property
    def paragraph_hashes(self) -> UInt64[np.ndarray, "_"]:
        return _mapped(self.directory / "paragraphs.npy")

    @property
    def paragraph_counts(self) -> UInt32[np.ndarray, "_"]:
        """Of each document, at least one."""
        return _mapped(self.directory / "paragraph_counts.npy")

    @property
    def paragraph_lengths(self) -> UInt32[np.ndarray, "_"]:
        """In characters."""
        return _mapped(self.directory / "lengths.npy")

    @property
    def signatures(self) -> UInt32[np.ndarray, "_ permutations"]:
        """Of the documents, where near duplicates are looked for."""
        return _mapped(self.directory / "signatures.npy")

    def sample(self) -> Iterator[list[str]]:
        """Documents for the tokenizer: the lowest hashes above the held-out ones.

        Documents held out by the floor (`filters.heldout`) may be among them.
        """
        document: list[str] = []
        with (self.directory / "sample.txt").open(encoding="utf-8", newline="\n") as file:
            for line in file:
                if line == "\n":
                    yield document
                    document = []
                else:
                    document.append(line.rstrip("\n"))

    def text(self, bundle: Bundle) -> Bundle:
        """What the second pass reads: `bundle`, or its clean text where that was kept."""
        path = self.directory / "text.txt"
        if not path.is_file():
            return bundle
        size = path.stat().st_size
        lines = "sentence" if bundle.in_sentences else "paragraph"
        reading = dataclasses.replace(_KEPT_TEXT, lines=lines)
        text = TextPart(FileRange(str(path), 0, size, size), reading)
        return dataclasses.replace(bundle, parts=(text,))


class Column(Sequence[np.ndarray]):
    """One array of each survey, mapped anew at every access.

    So no array stays in memory, and few files are open however many surveys there are.
    """

    def __init__(self, surveys: Sequence[Survey], name: str):
        """`name` is that of a property of `Survey`."""
        self._surveys = surveys
        self._name = name

    def __len__(self) -> int:
        return len(self._surveys)

    def __getitem__(self, index):
        return getattr(self._surveys[index], self._name)


def _mapped(path: Path) -> np.ndarray:
    """The array of a file as a memory map; an empty one, which cannot be mapped, is read."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        return np.load(path, allow_pickle=False)


def read_documents(part: Part, settings: Settings, causes: Counter[str]) -> Iterator[list[str]]:
    """The clean documents of a part; equal in both passes.

    Args:
      part: what to read.
      settings: they say which documents are dropped.
      causes: counts by cause of what is read, dropped and changed; added to.
    """
    for paragraphs in part.documents():
        causes["documents_read"] += 1
        if paragraphs is None:
            causes["bad_records"] += 1
            continue
        if settings.reading.invalid_utf8 != "refuse" and any(map(has_bad_bytes, paragraphs)):
            if settings.reading.invalid_utf8 == "drop":
                causes["invalid_documents"] += 1
                continue
            causes["replaced_documents"] += 1
            paragraphs = list(map(replace_bad_bytes, paragraphs))
        cleaned = list(clean_documents(paragraphs, causes))
        if not cleaned:
            causes["empty_documents"] += 1
            continue
        causes["documents_read"] += len(cleaned) - 1
        # The text reader has cut documents already, by their lengths before cleaning.
        causes["cut_documents"] += max(len(cleaned) - 1, sum(map(len, paragraphs)) > MAX_DOCUMENT)
        for document in cleaned:
            if sum(map(len, document)) < settings.minimum_characters:
                causes["short_documents"] += 1
                continue
            yield document


def survey(bundle: Bundle, directory: Path, sample_bytes: int, settings: Settings) -> Survey:
    """Reads a bundle and writes `directory`; returns at once when that is there.

    Args:
      bundle: what to read.
      directory: for the results.
      sample_bytes: UTF-8 bytes of training documents to keep for the tokenizer, at most.
      settings: of the store.
    """
    if directory.is_dir():
        return Survey(directory)
    with finished_directory(directory) as unfinished:
        _survey(bundle, unfinished, sample_bytes, settings)
    return Survey(directory)


def _survey(bundle: Bundle, directory: Path, sample_bytes: int, settings: Settings) -> None:
    documents: list[int] = []
    documents_by_part: list[int] = []
    paragraphs: list[int] = []
    lengths: list[int] = []
    paragraph_counts: list[int] = []
    causes: Counter[str] = Counter()
    signatures: list[np.ndarray] = []
    sample = _Sample(sample_bytes)
    border = heldout_below(settings.heldout_fraction)
    kept_text = (directory / "text.txt").open("w", encoding="utf-8") if bundle.costly else None
    for part in bundle.parts:
        before = len(documents)
        for document in read_documents(part, settings, causes):
            hash = document_hash(document)
            documents.append(hash)
            paragraphs += map(text_hash, document)
            lengths += map(len, document)
            paragraph_counts.append(len(document))
            if settings.near_duplicates:
                signatures.append(signature(document))
            if hash >= border:
                sample.offer(hash, document)
            if kept_text:
                kept_text.write("\n".join(document) + "\n\n")
        documents_by_part.append(len(documents) - before)
    if kept_text:
        kept_text.close()
    counts = {
        "documents": len(documents),
        "characters": sum(lengths),
        **{cause: causes[cause] for cause in ("documents_read", *DROPPED, *CHANGED)},
    }
    (directory / "counts.json").write_text(json.dumps(counts))
    (directory / "parts.json").write_text(json.dumps(documents_by_part))
    write_array(directory / "documents.npy", np.array(documents, np.uint64))
    write_array(directory / "paragraphs.npy", np.array(paragraphs, np.uint64))
    write_array(directory / "paragraph_counts.npy", np.array(paragraph_counts, np.uint32))
    write_array(directory / "lengths.npy", np.array(lengths, np.uint32))
    if settings.near_duplicates:
        write_array(
            directory / "signatures.npy", np.array(signatures, np.uint32).reshape(-1, PERMUTATIONS)
        )
    with (directory / "sample.txt").open("w", encoding="utf-8") as file:
        file.writelines("\n".join(document) + "\n\n" for document in sample.documents())


class _Sample:
    """The documents with the lowest hashes whose text fits into a number of bytes."""

    def __init__(self, limit: int):
        self._limit = limit
        self._heap: list[tuple[int, int, list[str]]] = []  # the highest hash comes out first
        self._hashes: set[int] = set()
        self._bytes = 0

    def offer(self, hash: int, document: list[str]) -> None:
        full = self._bytes >= self._limit
        if hash in self._hashes or (full and self._heap and hash > -self._heap[0][0]):
            return
        size = sum(len(text.encode()) for text in document)
        heapq.heappush(self._heap, (-hash, size, document))
        self._hashes.add(hash)
        self._bytes += size
        while self._heap and self._bytes - self._heap[0][1] >= self._limit:
            dropped, size, _ = heapq.heappop(self._heap)
            self._hashes.discard(-dropped)
            self._bytes -= size

    def documents(self) -> Iterator[list[str]]:
        for _, _, document in sorted(self._heap, key=lambda entry: -entry[0]):
            yield document
