"""The token store: token ids of documents in flat arrays on disk, opened as memory maps.

A store is a directory:

    manifest.json               what it was made from, counts, hashes; written last
    report.html, report.json    the audit, see audit.py
    token_counts.npy            how often each id occurs in the training split
    tokenizer/                  the tokenizer of the ids
    train/00000/tokens.npy      one directory a shard and split, four arrays each (see `Shard`)
    heldout/00000/tokens.npy

A shard is the encoding of one bundle of the input, so the bytes of a store are a function of its
sources and settings: never of the number of workers, their order or interruptions.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt

from bert_jax.common.errors import UserError
from bert_jax.common.inside import inside
from bert_jax.corpus.store.token_counts import count_tokens, read_counts, write_counts
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
REPORT = "report.json"
TOKENIZER = "tokenizer"
SPLITS = ("train", "heldout")

_FIX = "delete the token store's directory and prepare it again"


@dataclasses.dataclass(frozen=True, eq=False)
class Shard:
    """Documents one after another; every document has a sentence and every sentence a token.

    Attributes:
      tokens: [T], the ids of all documents, each framed: [CLS] ids... [SEP].
      document_offsets: [D + 1 borders], document d is
        `tokens[document_offsets[d]:document_offsets[d + 1]]`, its frame included.
      sentence_offsets: [S], index in `tokens` at which a sentence begins. It ends where the next
        one begins, the last one of a document at the document's [SEP].
      document_sentences: [D + 1 borders], the sentences of document d are
        `document_sentences[d]:document_sentences[d + 1]`.
    """

    tokens: UInt[np.ndarray, "T"]
    document_offsets: Int64[np.ndarray, "borders"]
    sentence_offsets: Int64[np.ndarray, "S"]
    document_sentences: Int64[np.ndarray, "borders"]

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)

    @property
    def num_documents(self) -> int:
        return len(self.document_offsets) - 1

    @property
    def num_sentences(self) -> int:
        return len(self.sentence_offsets)

    @classmethod
    def open(cls, directory: Path) -> "Shard":
        """Maps the arrays of a shard into memory, and reads their ends.

        Raises:
          UserError: an array is missing or damaged, or they do not belong together.
        """
        arrays = {}
        for name in ARRAYS:
            path = directory / f"{name}.npy"
            try:
                arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
                    raise UserError(
                        f"{path} cannot be opened: this process has as many files open as it may, "
                        "and a token store needs four a shard; raise the limit (ulimit -n 65536)"
                    ) from error
                raise UserError(f"{path} is missing or damaged ({error}); {_FIX}") from error
        kinds = {name: (array.ndim, array.dtype.kind) for name, array in arrays.items()}
        if kinds != {name: (1, "u" if name == "tokens" else "i") for name in ARRAYS}:
            raise UserError(f"the arrays of {directory} are not those of a shard; {_FIX}")
        documents, sentences = arrays["document_offsets"], arrays["document_sentences"]
        borders = [*documents[[0, -1]].tolist(), *sentences[[0, -1]].tolist()]
        whole = [0, len(arrays["tokens"]), 0, len(arrays["sentence_offsets"])]
        if borders != whole or len(documents) != len(sentences):
            raise UserError(f"the arrays of {directory} do not belong together; {_FIX}")
        return cls(**arrays)


ARRAYS = tuple(field.name for field in dataclasses.fields(Shard))


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """The shards of one split, in the order of the sources.

    Attributes:
      shards: the shards.
      sources: for each shard the name of its source; the shards of a source are consecutive.
    """

    shards: tuple[Shard, ...]
    sources: tuple[str, ...]

    def as_one_source(self) -> "Split":
        """The same shards, as if all were of one source."""
        return Split(self.shards, ("",) * len(self.shards))

    @property
    def num_tokens(self) -> int:
        """Tokens, [CLS] and [SEP] of each document included."""
        return sum(shard.num_tokens for shard in self.shards)

    @property
    def num_documents(self) -> int:
        return sum(shard.num_documents for shard in self.shards)

    @property
    def num_sentences(self) -> int:
        return sum(shard.num_sentences for shard in self.shards)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStore:
    """A complete store on disk; use `open`.

    Attributes:
      directory: where it is.
      manifest: the content of its manifest.json.
    """

    directory: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, directory: str | Path) -> "TokenStore":
        """Opens a finished store, and checks that every file exists in its full size.

        Raises:
          UserError: there is no store, or it has another version, damaged files, or files outside
            of its directory.
        """
        directory = Path(directory)
        manifest = read_manifest(directory)
        try:
            is_whole = manifest["fingerprint"] == fingerprint(manifest)
        except (KeyError, TypeError, AttributeError):
            is_whole = False
        if not is_whole:
            raise UserError(
                f"the token store {directory} is damaged: its {MANIFEST} was changed; {_FIX}"
            )
        for name, facts in manifest["files"].items():
            path = inside(directory, name, str(directory / MANIFEST))
            size = path.stat().st_size if path.is_file() else None
            if size != facts["bytes"]:
                state = "is missing" if size is None else f"has {size} bytes"
                raise UserError(
                    f"the token store {directory} is damaged: {name} {state}, the manifest says "
                    f"{facts['bytes']} bytes; {_FIX}"
                )
        return cls(directory, manifest)

    def verify(self) -> None:
        """Compares every file with its hash in the manifest; reads the whole store.

        Raises:
          UserError: files differ; the message names all of them.
        """
        files = self.manifest["files"].items()
        damaged = [
            name for name, facts in files if file_sha256(self.directory / name) != facts["sha256"]
        ]
        if damaged:
            raise UserError(
                f"the token store {self.directory} is damaged: the content of "
                f"{', '.join(damaged)} is not what its manifest says; {_FIX}"
            )

    @property
    def fingerprint(self) -> str:
        """Hash over the tokenizer and all arrays: equal fingerprints, equal batches."""
        return self.manifest["fingerprint"]

    @property
    def tokenizer_directory(self) -> Path:
        return self.directory / TOKENIZER

    def _inside(self, name: str) -> Path:
        return inside(self.directory, name, str(self.directory / MANIFEST))

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.tokenizer_directory)

    @functools.cached_property
    def token_counts(self) -> Int64[np.ndarray, "V"]:
        """How often each id occurs in the training split, [CLS] and [SEP] of documents left out.

        Stores of older versions have no such file: it is computed, and saved if possible.
        """
        train = self.manifest["splits"]["train"]
        total = train["tokens"] - 2 * train["documents"]
        counts = read_counts(self.directory, self.vocabulary.size, total)
        if counts is None:
            shards = [Shard.open(self._inside(name)) for name in train["shards"]]
            counts = sum(
                (count_tokens(shard.tokens, self.vocabulary.size) for shard in shards),
                start=np.zeros(self.vocabulary.size, np.int64),
            )
            counts[[self.vocabulary.cls_id, self.vocabulary.sep_id]] -= train["documents"]
            with contextlib.suppress(OSError):  # the store may be read-only
                write_counts(self.directory, counts)
        return counts

    def split(self, name: str) -> Split:
        """The shards of the split `name`: one of `SPLITS`, or `heldout/wiki`, of one source.

        Raises:
          UserError: the source has no document there.
        """
        name, _, source = name.partition("/")
        listed = self.manifest["splits"][name]
        chosen = [
            (Shard.open(self._inside(shard)), name_of_source)
            for shard, name_of_source in zip(listed["shards"], listed["sources"], strict=True)
            if source in ("", name_of_source)
        ]
        if not chosen:
            raise UserError(
                f"the {name} split of {self.directory} has no source {source!r}; it has "
                f"{', '.join(dict.fromkeys(listed['sources']))}"
            )
        shards, sources = zip(*chosen, strict=True)
        return Split(shards, sources)


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of the store in `directory`.

    Raises:
      UserError: there is none, or it has another format version.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise UserError(f"{directory} holds no finished token store: {path} is missing")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a token store's manifest ({error}); delete {directory} and prepare it "
            "again"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"the token store {directory} has format version {version}, this bert_jax reads "
            f"version {FORMAT_VERSION}; delete the directory and prepare it again"
        )
    return manifest


def fingerprint(manifest: dict[str, Any]) -> str:
    """Hash over the contents of the files of a store, the order of its shards, their sources."""
    hashes = {name: facts["sha256"] for name, facts in manifest["files"].items()}
    shards = [
        # A source is identified by its first shard, so that its name may change.
        [split["shards"], [split["sources"].index(name) for name in split["sources"]]]
        for split in (manifest["splits"][name] for name in SPLITS)
    ]
    text = json.dumps([hashes, shards], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """Hash of a file's content, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
