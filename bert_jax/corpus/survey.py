"""The first pass over a part: what is in it, before anything is thrown away or encoded.

Duplicates can be told only when all parts are known, and the tokenizer must exist before the
second pass; so the first one writes hashes, counts and a sample of the text.
"""

import dataclasses
import heapq
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt32, UInt64

from bert_jax.corpus.cleaning import MAX_DOCUMENT, clean_documents
from bert_jax.corpus.dedup import document_hash, heldout_below, text_hash
from bert_jax.corpus.files import finished_directory
from bert_jax.corpus.sources import Part
from bert_jax.corpus.text import TextPart


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the first pass found in a part, in a directory of its own."""

    directory: Path

    @property
    def counts(self) -> dict[str, int]:
        """`documents`, `characters` and, of those cut for their size, `cut_documents`."""
        return json.loads((self.directory / "counts.json").read_text())

    @property
    def document_hashes(self) -> UInt64[np.ndarray, "_"]:
        return np.load(self.directory / "documents.npy")

    @property
    def paragraph_hashes(self) -> UInt64[np.ndarray, "_"]:
        return np.load(self.directory / "paragraphs.npy")

    @property
    def paragraph_lengths(self) -> UInt32[np.ndarray, "_"]:
        """In characters."""
        return np.load(self.directory / "lengths.npy")

    def sample(self) -> Iterator[str]:
        """Paragraphs of the documents with the lowest hashes, for the tokenizer."""
        with (self.directory / "sample.txt").open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield line.rstrip("\n")

    def text(self, part: Part) -> Part:
        """What the second pass reads: `part`, or its clean text where that was kept."""
        path = self.directory / "text.txt"
        return TextPart(str(path), 0, path.stat().st_size) if path.is_file() else part


def read_documents(part: Part) -> Iterator[list[str]]:
    """The clean documents of a part; equal in both passes."""
    for paragraphs in part.documents():
        yield from clean_documents(paragraphs)


def survey(part: Part, directory: Path, sample_bytes: int, heldout_fraction: float) -> Survey:
    """Reads a part and writes `directory`; returns at once when that is there.

    Args:
      part: what to read.
      directory: where the findings go.
      sample_bytes: UTF-8 bytes of training documents to keep for the tokenizer, at most.
      heldout_fraction: share of the documents that the tokenizer must not see.
    """
    if directory.is_dir():
        return Survey(directory)
    with finished_directory(directory) as unfinished:
        _survey(part, unfinished, sample_bytes, heldout_fraction)
    return Survey(directory)


def _survey(part: Part, directory: Path, sample_bytes: int, heldout_fraction: float) -> None:
    documents: list[int] = []
    paragraphs: list[int] = []
    lengths: list[int] = []
    cut_documents = 0
    sample = _Sample(sample_bytes)
    kept_text = (directory / "text.txt").open("w", encoding="utf-8") if part.costly else None
    for document in read_documents(part):
        hash = document_hash(document)
        documents.append(hash)
        paragraphs += map(text_hash, document)
        lengths += map(len, document)
        cut_documents += sum(map(len, document)) > MAX_DOCUMENT
        if hash >= heldout_below(heldout_fraction):
            sample.offer(hash, document)
        if kept_text:
            kept_text.write("\n".join(document) + "\n\n")
    if kept_text:
        kept_text.close()
    counts = {
        "documents": len(documents),
        "characters": sum(lengths),
        "cut_documents": cut_documents,
    }
    (directory / "counts.json").write_text(json.dumps(counts))
    np.save(directory / "documents.npy", np.array(documents, np.uint64))
    np.save(directory / "paragraphs.npy", np.array(paragraphs, np.uint64))
    np.save(directory / "lengths.npy", np.array(lengths, np.uint32))
    with (directory / "sample.txt").open("w", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for document in sample.documents() for text in document)


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
