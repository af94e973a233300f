"""Building a token store: survey all parts, make the tokenizer, encode all parts, commit.

Everything is written below `<directory>.partial`, which takes its name when the manifest stands.
Each part's result appears there in one step; a build that was killed goes on with what is there.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from bert_jax.corpus import sentencepiece_tokenizer
from bert_jax.corpus.dedup import first_occurrences, heldout_below, text_hash
from bert_jax.corpus.encode import Encoded, Kept, encode
from bert_jax.corpus.files import finished_directory, write_json
from bert_jax.corpus.settings import Settings, from_config
from bert_jax.corpus.sources import Part, changed_files, list_parts
from bert_jax.corpus.store import (
    FORMAT_VERSION,
    MANIFEST,
    SPLITS,
    TOKENIZER,
    TokenStore,
    file_sha256,
    fingerprint,
    read_manifest,
)
from bert_jax.corpus.survey import Survey, survey
from bert_jax.corpus.tokenizer import Tokenizer
from bert_jax.corpus.workers import Workers
from bert_jax.errors import UserError


def build_store(config: ConfigDict, directory: str | Path) -> TokenStore:
    """The token store of `config` in `directory`: opened when it is there, else made.

    Args:
      config: its groups `corpus` and `tokenizer` decide the content.
      directory: where the store stands or shall stand; must not hold anything else.

    Raises:
      UserError: the source cannot be read or is too small, another store or something else stands
        in `directory`, another process is building it, or the disk is full.
    """
    directory = Path(directory)
    settings = from_config(config)
    if (directory / MANIFEST).is_file():
        return _open(directory, settings)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(
            f"{directory} is there and is no token store; give another directory "
            "(config.corpus.directory), or remove it"
        )
    try:
        parts = list_parts(settings.source)
        with _scratch(directory, settings, parts) as scratch:
            with Workers(min(config.corpus.workers, len(parts)) or 0) as workers:
                _build(scratch, settings, parts, workers)
            (scratch / "lock").unlink()
            os.replace(scratch, directory)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk is full: the token store {directory} could not be written; free some space "
            "and start again (finished parts are kept), or give another config.corpus.directory"
        ) from error
    return TokenStore.open(directory)


def _open(directory: Path, settings: Settings) -> TokenStore:
    """Opens a store that must have been made from `settings` and from the files as they are."""
    stored = read_manifest(directory)["settings"]
    wanted = dataclasses.asdict(settings)
    differences = [
        f"{name} is {stored_value!r} there and {wanted_value!r} here"
        for name, stored_value, wanted_value in _differences(stored, wanted)
    ]
    store = TokenStore.open(directory)
    if not differences:
        differences = changed_files(settings.source, store.manifest["sources"])
    if differences:
        raise UserError(
            f"the token store {directory} is another one: {'; '.join(differences)}. Give this one "
            "a directory of its own (config.corpus.directory or --workdir), or remove the old one"
        )
    return store


def _differences(
    stored: dict[str, Any], wanted: dict[str, Any], group: str = "config.corpus."
) -> Iterator[tuple[str, Any, Any]]:
    for name, value in wanted.items():
        if isinstance(value, dict):
            yield from _differences(stored.get(name, {}), value, f"config.{name}.")
        elif stored.get(name) != value:
            yield group + name, stored.get(name), value


@contextlib.contextmanager
def _scratch(directory: Path, settings: Settings, parts: Sequence[Part]) -> Iterator[Path]:
    """The directory of an unfinished build of the same plan, or an empty one; locked."""
    plan = {
        "format_version": FORMAT_VERSION,
        "settings": dataclasses.asdict(settings),
        "parts": hashlib.sha256(repr(parts).encode()).hexdigest(),
    }
    scratch = directory.with_name(directory.name + ".partial")
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is preparing the token store {directory}; wait for it"
            ) from error
        plan_file = scratch / "plan.json"
        if not plan_file.is_file() or json.loads(plan_file.read_text()) != plan:
            for path in scratch.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
            write_json(plan_file, plan)
        yield scratch


def _build(scratch: Path, settings: Settings, parts: Sequence[Part], workers: Workers) -> None:
    work = scratch / "work"
    work.mkdir(exist_ok=True)
    sizes = [part.size for part in parts]
    surveys = workers.run(
        "reading",
        survey,
        [
            (part, work / f"survey-{index:05d}", share, settings.heldout_fraction)
            for index, (part, share) in enumerate(zip(parts, _shares(sizes, settings), strict=True))
        ],
        sizes,
    )
    kept, removed = _find_duplicates(surveys, settings, work)
    tokenizer_directory = scratch / TOKENIZER
    tokenizer = _make_tokenizer(surveys, settings, tokenizer_directory)
    encoded = workers.run(
        "encoding",
        encode,
        [
            (found.text(part), work / f"encoded-{index:05d}", settings, tokenizer_directory, keep)
            for index, (part, found, keep) in enumerate(zip(parts, surveys, kept, strict=True))
        ],
        [found.counts["characters"] for found in surveys],
    )
    manifest = {
        "format_version": FORMAT_VERSION,
        "settings": dataclasses.asdict(settings),
        "sources": _sources(parts, surveys),
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        "removed": removed,
        **_collect(encoded, scratch),
    }
    for split in SPLITS:
        _refuse_empty(split, manifest["splits"][split]["documents"], settings)
    shutil.rmtree(work)
    (scratch / "plan.json").unlink()
    write_json(scratch / MANIFEST, {**manifest, "fingerprint": fingerprint(manifest["files"])})


def _shares(sizes: Sequence[int], settings: Settings) -> list[int]:
    """How many bytes each part gives to the tokenizer's sample; none where one is given."""
    if settings.tokenizer.path:
        return [0] * len(sizes)
    return [settings.tokenizer.sample_bytes * size // max(1, sum(sizes)) for size in sizes]


def _find_duplicates(
    surveys: Sequence[Survey], settings: Settings, work: Path
) -> tuple[list[Kept], dict[str, int]]:
    """What is left of each part, and how much is removed by cause.

    Raises:
      UserError: a split has no document.
    """
    documents = [found.document_hashes for found in surveys]
    paragraphs = [found.paragraph_hashes for found in surveys]
    if settings.deduplicate:
        first_documents = first_occurrences(documents)
        first_paragraphs = first_occurrences(paragraphs)
        kept = []
        for index, masks in enumerate(zip(first_documents, first_paragraphs, strict=True)):
            path = work / f"kept-{index:05d}.npz"
            np.savez(path, documents=masks[0], paragraphs=masks[1])
            kept.append(Kept(path))
    else:
        first_documents = [np.ones(len(hashes), bool) for hashes in documents]
        first_paragraphs = [np.ones(len(hashes), bool) for hashes in paragraphs]
        kept = [Kept(None)] * len(surveys)
    left = [hashes[first] for hashes, first in zip(documents, first_documents, strict=True)]
    total = sum(map(len, left))
    if total < 2:
        raise UserError(
            f"config.corpus.source={settings.source!r} holds {total} different documents, two are "
            "the least; a blank line ends a document"
        )
    border = heldout_below(settings.heldout_fraction)
    heldout = sum(int(np.count_nonzero(hashes < border)) for hashes in left)
    _refuse_empty("heldout", heldout, settings)
    _refuse_empty("train", total - heldout, settings)
    removed = {
        "duplicate_documents": sum(map(len, documents)) - total,
        "repeated_paragraphs": sum(int(np.count_nonzero(~mask)) for mask in first_paragraphs),
    }
    return kept, removed


def _refuse_empty(split: str, documents: int, settings: Settings) -> None:
    if not documents:
        mend = "raise it" if split == "heldout" else "lower it"
        raise UserError(
            f"config.corpus.heldout_fraction={settings.heldout_fraction} leaves no document of "
            f"{settings.source!r} in the {split} split; {mend}, or add documents"
        )


def _make_tokenizer(surveys: Sequence[Survey], settings: Settings, directory: Path) -> Tokenizer:
    """The tokenizer in `directory`: what a build before left there, a given one, or a trained."""
    if directory.is_dir():
        return Tokenizer.load(directory)
    tokenizer: Tokenizer
    if settings.tokenizer.path:
        tokenizer = sentencepiece_tokenizer.SentencePieceTokenizer.open(
            Path(settings.tokenizer.path)
        )
    else:
        tokenizer = sentencepiece_tokenizer.train(_sample(surveys), settings.tokenizer)
    with finished_directory(directory) as unfinished:
        tokenizer.save(unfinished)
    return tokenizer


def _sample(surveys: Sequence[Survey]) -> Iterator[str]:
    """The paragraphs of the sample, each once."""
    seen: set[int] = set()
    for found in surveys:
        for paragraph in found.sample():
            hash = text_hash(paragraph)
            if hash not in seen:
                seen.add(hash)
                yield paragraph


def _sources(parts: Sequence[Part], surveys: Sequence[Survey]) -> list[dict[str, Any]]:
    """Name, bytes, documents and hash of the clean text of each file that was read."""
    sources: dict[str, dict[str, Any]] = {}
    for part, found in zip(parts, surveys, strict=True):
        source = sources.setdefault(
            part.name, {"name": part.name, "bytes": 0, "documents": 0, "hash": hashlib.sha256()}
        )
        source["bytes"] += part.size
        source["documents"] += found.counts["documents"]
        source["hash"].update(found.document_hashes.astype("<u8").tobytes())
    return [{**source, "hash": source["hash"].hexdigest()} for source in sources.values()]


def _collect(encoded: Sequence[Encoded], scratch: Path) -> dict[str, Any]:
    """Moves the shards of all parts to their places; the manifest's `splits` and `files`."""
    splits: dict[str, dict[str, Any]] = {
        split: {"documents": 0, "sentences": 0, "tokens": 0, "characters": 0, "unknown": 0}
        for split in SPLITS
    }
    files = {
        f"{TOKENIZER}/{path.name}": {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted((scratch / TOKENIZER).iterdir())
    }
    for split in SPLITS:
        (scratch / split).mkdir(exist_ok=True)
        shards = []
        for index, part in enumerate(encoded):
            facts = part.facts
            counts = facts["splits"][split]
            if not counts["documents"]:
                continue
            shard = f"{split}/{index:05d}"
            shards.append(shard)
            for name, value in counts.items():
                splits[split][name] += value
            if not (scratch / shard).is_dir():  # else a build was killed after it moved it
                (part.directory / split).rename(scratch / shard)
            for name, file in facts["files"].items():
                if Path(name).parent.name == split:
                    files[f"{shard}/{Path(name).name}"] = file
        splits[split]["shards"] = shards
    return {"splits": splits, "files": files}
