"""Writes arrays, those of a shard batch by batch."""

from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped

from bert_jax.corpus.tokenizers.vocabulary import Vocabulary


def write_array(path: Path, values: Shaped[np.ndarray, "..."]) -> None:
    """Writes the same .npy file as `np.save`, whose errors do not say that the disk is full."""
    with path.open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(values)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(values).tobytes())


class ArrayWriter:
    """A one-dimensional .npy file that grows; `close` writes the length into its header."""

    def __init__(self, path: Path, dtype: np.dtype | type):
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self.length = 0
        self._write_header()

    def append(self, values: Shaped[np.ndarray, "_"]) -> None:
        """Writes `values`, cast to the type of the file."""
        self._file.write(values.astype(self._dtype, copy=False).tobytes())
        self.length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        # numpy reserves space for a length of any number of digits: both headers are equally long.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class ShardWriter:
    """The four arrays of a shard (see `store.Shard`), appended to batch by batch."""

    def __init__(self, directory: Path, vocabulary: Vocabulary):
        directory.mkdir(parents=True)
        self._vocabulary = vocabulary
        self._tokens = ArrayWriter(directory / "tokens.npy", vocabulary.token_dtype)
        self._document_offsets = ArrayWriter(directory / "document_offsets.npy", np.int64)
        self._sentence_offsets = ArrayWriter(directory / "sentence_offsets.npy", np.int64)
        self._document_sentences = ArrayWriter(directory / "document_sentences.npy", np.int64)
        self._document_offsets.append(np.zeros(1, np.int64))
        self._document_sentences.append(np.zeros(1, np.int64))

    @property
    def num_tokens(self) -> int:
        return self._tokens.length

    @property
    def num_documents(self) -> int:
        return self._document_offsets.length - 1

    @property
    def num_sentences(self) -> int:
        return self._sentence_offsets.length

    def append(
        self, sentences: list[np.ndarray], sentence_counts: Int64[np.ndarray, "D"]
    ) -> Int64[np.ndarray, "D 2"]:
        """Adds documents.

        Args:
          sentences: the ids of each sentence of each document, without special ones. Sentences
            without ids are left out, and so are documents without sentences.
          sentence_counts: [D], how many sentences each document has.

        Returns:
          The sentences and the tokens of each document as it is stored; zeros where it is not.
        """
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        document = np.repeat(np.arange(len(sentence_counts)), sentence_counts)[lengths > 0]
        lengths = lengths[lengths > 0]
        stored = np.zeros((len(sentence_counts), 2), np.int64)
        if not len(lengths):
            return stored
        np.add.at(stored, document, np.stack([np.ones_like(lengths), lengths], axis=1))
        has_text = stored[:, 0] > 0
        stored[has_text, 1] += 2  # [CLS] and [SEP]
        counts = stored[has_text, 0]
        ids = np.concatenate(sentences)
        framed = frame(ids, lengths, counts, self._vocabulary.cls_id, self._vocabulary.sep_id)
        self._document_offsets.append(self.num_tokens + framed.document_offsets[1:])
        self._document_sentences.append(self.num_sentences + np.cumsum(counts))
        self._sentence_offsets.append(self.num_tokens + framed.sentence_offsets)
        self._tokens.append(framed.tokens)
        return stored

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for array in (
            self._tokens,
            self._document_offsets,
            self._sentence_offsets,
            self._document_sentences,
        ):
            array.close()


class Framed(NamedTuple):
    """T = N + 2 D tokens, [CLS] and [SEP] included, and the offsets of documents and sentences."""

    tokens: Shaped[np.ndarray, "T"]
    document_offsets: Int64[np.ndarray, "borders"]
    sentence_offsets: Int64[np.ndarray, "S"]


def frame(
    ids: Shaped[np.ndarray, "N"],
    sentence_lengths: Int64[np.ndarray, "S"],
    sentence_counts: Int64[np.ndarray, "D"],
    cls_id: int,
    sep_id: int,
) -> Framed:
    """Puts [CLS] before and [SEP] after each document.

    Args:
      ids: the ids of all sentences, one after another.
      sentence_lengths: how many of them each sentence has, at least one.
      sentence_counts: how many sentences each document has, at least one.
      cls_id: put before each document.
      sep_id: put after each document.
    """
    document = np.repeat(np.arange(len(sentence_counts)), sentence_counts)
    starts = np.concatenate([[0], np.cumsum(sentence_lengths)])
    last_sentences = np.cumsum(sentence_counts)
    ends = starts[last_sentences] + 2 * np.arange(1, len(sentence_counts) + 1)
    document_offsets = np.concatenate([[0], ends])
    tokens = np.empty(len(ids) + 2 * len(sentence_counts), ids.dtype)
    is_text = np.ones(len(tokens), bool)
    is_text[document_offsets[:-1]] = False
    is_text[document_offsets[1:] - 1] = False
    tokens[document_offsets[:-1]] = cls_id
    tokens[document_offsets[1:] - 1] = sep_id
    tokens[is_text] = ids
    return Framed(tokens, document_offsets, starts[:-1] + 2 * document + 1)
