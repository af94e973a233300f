"""Building a token store: survey all bundles, make the tokenizer, encode all bundles, audit.

Everything is written below `<directory>.partial` (see scratch.py), which is renamed at the end.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bert_jax.common.atomic import finished_directory
from bert_jax.corpus.audit import pair_warnings
from bert_jax.corpus.encode import Encoded, encode
from bert_jax.corpus.existing import expect_no_other_content, open_existing
from bert_jax.corpus.filters.dedup import document_hash, text_hash
from bert_jax.corpus.filters.heldout import HeldOut
from bert_jax.corpus.filters.selection import Selection, expect_enough, select
from bert_jax.corpus.progress import progress
from bert_jax.corpus.readers.text import StandardInput
from bert_jax.corpus.report import read_repeated, warn, write_report
from bert_jax.corpus.scratch import building, commit, refusals_named, scratch_of
from bert_jax.corpus.settings import Needs, Settings
from bert_jax.corpus.sources import Bundle, list_bundles
from bert_jax.corpus.store import (
    FORMAT_VERSION,
    MANIFEST,
    SPLITS,
    TOKENIZER,
    TokenStore,
    fingerprint,
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


def build_store(
    settings: Settings,
    directory: str | Path,
    needs: Needs = Needs(),  # noqa: B008, it is frozen
    engine: Engine | None = None,
) -> TokenStore:
    """The token store of `settings` in `directory`: opened if it exists, else made.

    Args:
      settings: decide the content.
      directory: of the store; nothing else may be in it.
      needs: of the run; they decide errors and warnings, never the content.
      engine: reads and encodes the parts; by default `settings.workers` processes on this machine.

    Raises:
      UserError: the source cannot be read or is too small, another store or something else is in
        `directory`, another process is building it, or the disk is full.
    """
    directory = Path(directory).absolute()
    if (directory / MANIFEST).is_file():
        return _open(directory, settings, needs)
    with building(directory):
        if (directory / MANIFEST).is_file():  # made by another process just before
            return _open(directory, settings, needs)
        expect_no_other_content(directory)
        bundles = list_bundles(settings)
        megabytes = sum(bundle.size for bundle in bundles) / 1e6
        print(
            f"making the token store {directory} from {settings.source} ({megabytes:,.1f} MB)",
            file=sys.stderr,
            flush=True,
        )
        scratch = scratch_of(directory, settings, bundles)
        with refusals_named(scratch), Workers(settings.workers) as workers:
            manifest = _build(scratch, bundles, settings, needs, workers, engine or workers.run)
        commit(scratch, directory, manifest)
    return TokenStore.open(directory)


def _open(directory: Path, settings: Settings, needs: Needs) -> TokenStore:
    store = open_existing(directory, settings, needs)
    warn(pair_warnings(store.manifest, needs))  # it may have been made for another objective
    return store


def _build(
    scratch: Path,
    bundles: Sequence[Bundle],
    settings: Settings,
    needs: Needs,
    workers: Workers,
    engine: Engine,
) -> dict[str, Any]:
    """Writes all of a store but its manifest, which is returned."""
    work = scratch / "work"
    shares = [bundle.source.share for bundle in bundles]
    settings_of = [settings.of(bundle.source.name) for bundle in bundles]

    # 1. Read everything: hashes, counts and a sample for the tokenizer.
    sizes = [bundle.size for bundle in bundles]
    samples = _sample_bytes([bundle.size * bundle.source.share for bundle in bundles], settings)
    calls = [
        (bundle, work / f"survey-{index:05d}", samples[index], settings_of[index])
        for index, bundle in enumerate(bundles)
    ]
    for bundle, directory, _, own in calls:
        if any(isinstance(part, StandardInput) for part in bundle.parts):
            # This process alone has it: the engine finds the survey made, and its text kept. Its
            # size is unknown: it may give as much to the sample as all others together.
            survey(bundle, directory, sum(samples), own)
    surveys = engine("reading", survey, calls, sizes)

    # 2. Decide what is stored: no duplicates, and which documents are held out.
    with progress("looking for duplicates", 0):
        selection = select(surveys, shares, settings, needs, work)
    heldout = selection.heldout

    # 3. Make the tokenizer.
    tokenizer = _make_tokenizer(surveys, heldout, settings, scratch / TOKENIZER)

    # 4. Read everything again: token ids, in shards.
    texts = [each.text(bundle) for bundle, each in zip(bundles, surveys, strict=True)]
    encoded = engine(
        "encoding",
        encode,
        [
            (
                text,
                work / f"encoded-{index:05d}",
                settings_of[index],
                scratch / TOKENIZER,
                kept,
                heldout,
            )
            for index, (text, kept) in enumerate(zip(texts, selection.kept, strict=True))
        ],
        [each.counts["characters"] for each in surveys],
    )

    # 5. Move the shards to their directories, and audit the result.
    manifest = _manifest(scratch, bundles, settings, surveys, selection, tokenizer, encoded)
    for split in SPLITS:  # documents without a token are known only now
        expect_enough(split, manifest["splits"][split]["documents"], settings, needs)
    repeated = read_repeated(selection.most_repeated, texts, settings_of, workers)
    write_report(TokenStore(scratch, manifest), repeated, needs, workers)
    return manifest


def _manifest(
    scratch: Path,
    bundles: Sequence[Bundle],
    settings: Settings,
    surveys: Sequence[Survey],
    selection: Selection,
    tokenizer: Tokenizer,
    encoded: Sequence[Encoded],
) -> dict[str, Any]:
    """The manifest of a store; moves its shards to their directories."""
    counts = [each.counts for each in surveys]
    manifest = {
        "format_version": FORMAT_VERSION,
        "settings": settings.deciding_bytes(),
        "sources": list_sources(bundles, surveys, encoded),
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
        "documents_read": sum(count["documents_read"] for count in counts),
        "removed": selection.removed
        | {"untokenized_documents": sum(part.facts["untokenized"] for part in encoded)},
        "changed": {cause: sum(count[cause] for count in counts) for cause in CHANGED},
        "repeated_share": selection.repeated_share,
        "heldout": selection.heldout.as_facts(),
        **collect_shards(encoded, bundles, scratch),
    }
    return manifest | {"fingerprint": fingerprint(manifest)}


def _sample_bytes(sizes: Sequence[float], settings: Settings) -> list[int]:
    """How many bytes each bundle gives to the tokenizer's sample; none where a path is given."""
    if settings.tokenizer.path:
        return [0] * len(sizes)
    return [int(settings.tokenizer.sample_bytes * size / sum(sizes)) for size in sizes]


def _make_tokenizer(
    surveys: Sequence[Survey], heldout: HeldOut, settings: Settings, directory: Path
) -> Tokenizer:
    """The tokenizer in `directory`: from an earlier build, else the existing or a trained one."""
    if directory.is_dir():
        return load_tokenizer(directory)
    if settings.tokenizer.path:
        wanted = settings.tokenizer
        tokenizer = open_tokenizer(Path(wanted.path), wanted.lowercase, wanted.strip_accents)
        if wanted.lowercase:
            warn(case_warnings(tokenizer, wanted.path))
    else:
        tokenizer = train_tokenizer(_sample(surveys, heldout), settings.tokenizer)
    with finished_directory(directory) as unfinished:
        tokenizer.save(unfinished)
    return tokenizer


def _sample(surveys: Sequence[Survey], heldout: HeldOut) -> Iterator[str]:
    """The paragraphs of the sample that are trained on, each once."""
    seen: set[int] = set()
    for each in surveys:
        for document in each.sample():
            if heldout.holds(document_hash(document)):
                continue
            for paragraph in document:
                hash = text_hash(paragraph)
                if hash not in seen:
                    seen.add(hash)
                    yield paragraph
