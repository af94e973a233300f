"""What of the surveyed text enters the store: which documents and paragraphs are no duplicates."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from bert_jax.corpus.dedup import (
    LONG_PARAGRAPH,
    first_occurrences,
    heldout_below,
    in_share,
    most_repeated,
)
from bert_jax.corpus.near_duplicates import near_duplicates
from bert_jax.corpus.settings import Settings
from bert_jax.corpus.sources import Bundle
from bert_jax.corpus.survey import Survey, read_documents
from bert_jax.errors import UserError

REPEATED_SHOWN = 10
QUOTED = 200  # characters of a repeated paragraph


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """Which documents, and which paragraphs of all documents, of a bundle stay."""

    documents: Bool[np.ndarray, "D"]
    paragraphs: Bool[np.ndarray, "paragraphs"]


@dataclasses.dataclass(frozen=True)
class Kept:
    """The masks of a bundle in a file, for the process that encodes it; no file: all stays."""

    path: Path | None

    def load(self) -> Masks | None:
        if self.path is None:
            return None
        with np.load(self.path) as arrays:
            return Masks(arrays["documents"], arrays["paragraphs"])


@dataclasses.dataclass(frozen=True)
class Selection:
    """What stays of each bundle, and what of all of them goes.

    Attributes:
      kept: of each bundle.
      removed: documents and paragraphs that go, by cause.
      repeated_share: share of the characters left that repeat an earlier paragraph.
      most_repeated: (times, bundle, paragraph) of the most repeated paragraphs.
    """

    kept: list[Kept]
    removed: dict[str, int]
    repeated_share: float
    most_repeated: list[tuple[int, int, int]]


def select(
    surveys: Sequence[Survey], shares: Sequence[float], settings: Settings, directory: Path
) -> Selection:
    """Decides from the surveys of all bundles; masks go into `directory`.

    Args:
      surveys: of all bundles.
      shares: of the documents of each bundle, to use.
      settings: of the store.
      directory: where the masks go.

    Raises:
      UserError: there are fewer than two documents, or a split would have none.
    """
    documents = [found.document_hashes for found in surveys]
    paragraphs = [found.paragraph_hashes for found in surveys]
    first_documents = first_occurrences(documents)
    first_paragraphs = first_occurrences(paragraphs)
    if settings.near_duplicates:
        near = near_duplicates([found.signatures for found in surveys], settings.near_duplicates)
    kept, left = [], []
    removed: Counter[str] = Counter()
    characters = repeated_characters = 0
    for index, (found, share) in enumerate(zip(surveys, shares, strict=True)):
        lengths, hashes = found.paragraph_lengths, found.document_hashes
        stays, paragraph_stays = np.ones(len(hashes), bool), np.ones(len(lengths), bool)
        if settings.deduplicate:
            stays = first_documents[index]
            paragraph_stays = first_paragraphs[index] | (lengths < LONG_PARAGRAPH)
        removed["duplicate_documents"] += int(np.count_nonzero(~stays))
        removed["repeated_paragraphs"] += int(np.count_nonzero(~paragraph_stays))
        if settings.near_duplicates:
            removed["near_duplicates"] += int(np.count_nonzero(stays & near[index]))
            stays = stays & ~near[index]
        if share < 1:
            sampled = in_share(hashes, share)
            removed["documents_not_sampled"] += int(np.count_nonzero(stays & ~sampled))
            stays = stays & sampled
        path = None
        if not (stays.all() and paragraph_stays.all()):
            path = directory / f"kept-{index:05d}.npz"
            np.savez(path, documents=stays, paragraphs=paragraph_stays)
        kept.append(Kept(path))
        left.append(hashes[stays])
        characters += int(lengths[paragraph_stays].sum())
        repeated_characters += int(lengths[paragraph_stays & ~first_paragraphs[index]].sum())
        for cause in ("invalid_documents", "short_documents"):
            removed[cause] += found.counts[cause]
    _check_splits(left, settings)
    return Selection(
        kept=kept,
        removed=dict(removed),
        repeated_share=repeated_characters / characters,
        most_repeated=most_repeated(paragraphs, REPEATED_SHOWN),
    )


def _check_splits(hashes: Sequence[np.ndarray], settings: Settings) -> None:
    total = sum(map(len, hashes))
    if total < 2:
        raise UserError(
            f"config.corpus.source={settings.source!r} holds {total} different documents, two are "
            "the least; config.corpus.documents says what ends one"
        )
    border = heldout_below(settings.heldout_fraction)
    heldout = sum(int(np.count_nonzero(part < border)) for part in hashes)
    refuse_empty("heldout", heldout, settings)
    refuse_empty("train", total - heldout, settings)


def refuse_empty(split: str, documents: int, settings: Settings) -> None:
    """Raises UserError when the split `split` has no documents."""
    if not documents:
        mend = "raise it" if split == "heldout" else "lower it"
        raise UserError(
            f"config.corpus.heldout_fraction={settings.heldout_fraction} leaves no document of "
            f"{settings.source!r} in the {split} split; {mend}, or add documents"
        )


def quote(bundle: Bundle, settings: Settings, paragraph: int) -> str:
    """The beginning of a paragraph of a bundle, found by reading up to it."""
    documents = (read_documents(part, settings, Counter()) for part in bundle.parts)
    paragraphs = itertools.chain.from_iterable(itertools.chain.from_iterable(documents))
    return next(itertools.islice(paragraphs, paragraph, None))[:QUOTED]
