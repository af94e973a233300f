"""Building a token store: survey all bundles, make the tokenizer, encode all bundles, commit.

Everything is written below `<directory>.partial`, which takes its name when the manifest stands.
Each bundle's result appears there in one step; a build that was killed goes on with what is there.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bert_jax.common.atomic import finished_directory, write_json
from bert_jax.common.errors import UserError
from bert_jax.corpus.audit import audit, count, pair_warnings, total
from bert_jax.corpus.encode import encode
from bert_jax.corpus.filters.dedup import text_hash
from bert_jax.corpus.filters.selection import quote, refuse_empty, select
from bert_jax.corpus.readers.paths import is_remote
from bert_jax.corpus.report import page
from bert_jax.corpus.settings import Settings, from_config
from bert_jax.corpus.sources import Bundle, changed_files, list_bundles
from bert_jax.corpus.store import (
    FORMAT_VERSION,
    MANIFEST,
    REPORT,
    SPLITS,
    TOKENIZER,
    TokenStore,
    fingerprint,
    read_manifest,
)
from bert_jax.corpus.store.manifest import collect_shards, list_sources
from bert_jax.corpus.survey import CHANGED, Survey, survey
from bert_jax.corpus.tokenizers.base import Tokenizer
from bert_jax.corpus.tokenizers.load import (
    case_warnings,
    load_tokenizer,
    open_tokenizer,
    train_tokenizer,
)
from bert_jax.corpus.workers import Engine, Workers

PLAN = "plan.json"

# Settings that older stores do not list, and what they were.
_LATER = {"lines": "paragraph", "options": "", "strip_accents": "auto"}


_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file grew larger than this process may write (ulimit -f)",
}


def build_store(
    config: ConfigDict, directory: str | Path, engine: Engine | None = None
) -> TokenStore:
    """The token store of `config` in `directory`: opened when it is there, else made.

    Args:
      config: its groups `corpus` and `tokenizer` decide the content.
      directory: where the store stands or shall stand; must not hold anything else.
      engine: reads and encodes the parts; by default `config.corpus.workers` processes here.

    Raises:
      UserError: the source cannot be read or is too small, another store or something else stands
        in `directory`, it is no local one, another process is building it, or the disk is full.
    """
    if is_remote(config.corpus.directory):
        raise UserError(
            f"config.corpus.directory={config.corpus.directory!r}: a token store is mapped into "
            "memory, so it needs a directory of a (shared) file system; only sources are read "
            "from elsewhere"
        )
    directory = Path(directory).absolute()
    settings = from_config(config)
    if (directory / MANIFEST).is_file():
        return _open(directory, settings, config.stream.objective)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(
            f"{directory} is there and is no token store; give another directory "
            "(config.corpus.directory), or remove it"
        )
    try:
        bundles = list_bundles(settings)
        with _scratch(directory, settings, bundles) as scratch:
            with Workers(config.corpus.workers) as workers:
                store, repeated = _build(scratch, settings, bundles, workers, engine or workers.run)
                _write_report(store, repeated, config.stream.objective, workers)
            write_json(scratch / MANIFEST, store.manifest)
            (scratch / PLAN).unlink()  # first: what is half deleted belongs to no plan
            shutil.rmtree(scratch / "work")
            (scratch / "lock").unlink()
            os.replace(scratch, directory)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f"{_FULL[error.errno]}: the token store {directory} could not be written; mend that "
            "and start again (finished parts are kept), or give another config.corpus.directory"
        ) from error
    return TokenStore.open(directory)


def _open(directory: Path, settings: Settings, objective: str) -> TokenStore:
    """Opens a store that must have been made from `settings` and from the files as they are."""
    stored = read_manifest(directory)["settings"]
    wanted = dataclasses.asdict(settings)
    differences = [
        f"{field.name} is {field.stored!r} there and {field.wanted!r} here"
        for field in _differences(stored, wanted)
    ]
    store = TokenStore.open(directory)
    if not differences:
        differences = changed_files(settings.source, store.manifest["sources"])
    if differences:
        raise UserError(
            f"the token store {directory} is another one: {'; '.join(differences)}. Give this one "
            "a directory of its own (config.corpus.directory or --workdir), or remove the old one"
        )
    _warn(pair_warnings(store.manifest, objective))  # the store may be older than the objective
    return store


class _Difference(NamedTuple):
    name: str
    stored: Any
    wanted: Any


def _differences(
    stored: dict[str, Any], wanted: dict[str, Any], group: str = "config.corpus."
) -> Iterator[_Difference]:
    for name, value in wanted.items():
        if isinstance(value, dict):
            inner = "config.tokenizer." if name == "tokenizer" else group
            yield from _differences(stored.get(name, {}), value, inner)
        elif (before := stored.get(name, _LATER.get(name))) != value:
            yield _Difference(group + name, before, value)


@contextlib.contextmanager
def _scratch(directory: Path, settings: Settings, bundles: Sequence[Bundle]) -> Iterator[Path]:
    """The directory of an unfinished build of the same plan, or an empty one; locked."""
    plan = {
        "format_version": FORMAT_VERSION,
        "settings": dataclasses.asdict(settings),
        "bundles": hashlib.sha256(repr([bundles, _times(bundles)]).encode()).hexdigest(),
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
        plan_file = scratch / PLAN
        if not plan_file.is_file() or json.loads(plan_file.read_text()) != plan:
            plan_file.unlink(missing_ok=True)  # before what it speaks of goes
            for path in scratch.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
            write_json(plan_file, plan)
        for unfinished in scratch.glob("**/*.tmp"):  # of a build that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        yield scratch


def _times(bundles: Sequence[Bundle]) -> list[int]:
    """When each local file was changed last, in ns: it may have kept its size."""
    names = {part.name: part.file_bytes for bundle in bundles for part in bundle.parts}
    return [
        os.stat(name).st_mtime_ns
        for name, file_bytes in names.items()
        if file_bytes is not None and not is_remote(name)
    ]


def _build(
    scratch: Path,
    settings: Settings,
    bundles: Sequence[Bundle],
    workers: Workers,
    engine: Engine,
) -> tuple[TokenStore, list[dict[str, Any]]]:
    """All but the manifest and the report; returns the store and its most repeated paragraphs."""
    work = scratch / "work"
    work.mkdir(exist_ok=True)
    own = [settings.of(bundle.source.name) for bundle in bundles]
    sizes = [bundle.size for bundle in bundles]
    shares = [bundle.source.share for bundle in bundles]
    samples = _sample_bytes([bundle.size * bundle.source.share for bundle in bundles], settings)
    surveys = engine(
        "reading",
        survey,
        [
            (bundle, work / f"survey-{index:05d}", samples[index], own[index])
            for index, bundle in enumerate(bundles)
        ],
        sizes,
    )
    selection = select(surveys, shares, settings, work)
    tokenizer_directory = scratch / TOKENIZER
    tokenizer = _make_tokenizer(surveys, settings, tokenizer_directory)
    texts = [found.text(bundle) for bundle, found in zip(bundles, surveys, strict=True)]
    encoded = engine(
        "encoding",
        encode,
        [
            (text, work / f"encoded-{index:05d}", own[index], tokenizer_directory, kept)
            for index, (text, kept) in enumerate(zip(texts, selection.kept, strict=True))
        ],
        [found.counts["characters"] for found in surveys],
    )
    manifest = {
        "format_version": FORMAT_VERSION,
        "settings": dataclasses.asdict(settings),
        "sources": list_sources(bundles, surveys, encoded),
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        "documents_read": sum(found.counts["documents_read"] for found in surveys),
        "removed": selection.removed
        | {"untokenized_documents": sum(part.facts["untokenized"] for part in encoded)},
        "changed": {cause: sum(found.counts[cause] for found in surveys) for cause in CHANGED},
        "repeated_share": selection.repeated_share,
        **collect_shards(encoded, bundles, scratch),
    }
    for split in SPLITS:
        refuse_empty(split, manifest["splits"][split]["documents"], settings)
    manifest["fingerprint"] = fingerprint(manifest)
    quotes = [
        (texts[found.array], own[found.array], found.position) for found in selection.most_repeated
    ]
    quoted = workers.run("quoting", quote, quotes, [text.size for text, *_ in quotes])
    repeated = [
        {"times": found.times, "text": text}
        for found, text in zip(selection.most_repeated, quoted, strict=True)
    ]
    return TokenStore(scratch, manifest), repeated


def _write_report(
    store: TokenStore, repeated: list[dict[str, Any]], objective: str, workers: Workers
) -> None:
    """Writes report.json and report.html, and tells their warnings."""
    figures = {}
    for split in SPLITS:
        shards = [store.directory / name for name in store.manifest["splits"][split]["shards"]]
        sizes = [(shard / "tokens.npy").stat().st_size for shard in shards]
        calls = [(shard, store.vocabulary) for shard in shards]
        figures[split] = total(workers.run(f"counting {split}", count, calls, sizes))
    facts = audit(store, figures, repeated, objective)
    write_json(store.directory / REPORT, facts)
    (store.directory / "report.html").write_text(page(facts), encoding="utf-8")
    _warn(facts["warnings"])


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def _sample_bytes(sizes: Sequence[float], settings: Settings) -> list[int]:
    """How many bytes each bundle gives to the tokenizer's sample; none where one is given."""
    if settings.tokenizer.path:
        return [0] * len(sizes)
    return [int(settings.tokenizer.sample_bytes * size / sum(sizes)) for size in sizes]


def _make_tokenizer(surveys: Sequence[Survey], settings: Settings, directory: Path) -> Tokenizer:
    """The tokenizer in `directory`: what a build before left there, a given one, or a trained."""
    if directory.is_dir():
        return load_tokenizer(directory)
    if settings.tokenizer.path:
        wanted = settings.tokenizer
        tokenizer = open_tokenizer(Path(wanted.path), wanted.lowercase, wanted.strip_accents)
        if wanted.lowercase:
            _warn(case_warnings(tokenizer, wanted.path))
    else:
        tokenizer = train_tokenizer(_sample(surveys), settings.tokenizer)
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
