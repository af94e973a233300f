"""What of the surveyed text enters the store: a share of the documents, and no duplicates."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt32

from bert_jax.common.errors import UserError
from bert_jax.corpus.filters.dedup import (
    LONG_PARAGRAPH,
    Repeated,
    first_occurrences,
    heldout_below,
    in_share,
    most_repeated,
)
from bert_jax.corpus.filters.near_duplicates import near_duplicates
from bert_jax.corpus.settings import Settings
from bert_jax.corpus.sources import Bundle
from bert_jax.corpus.survey import DROPPED, Column, Survey, read_documents

REPEATED_SHOWN = 10
QUOTED = 200  # characters of a repeated paragraph


@dataclasses.dataclass(frozen=True)
class Kept:
    """Which paragraphs of a bundle stay, in a file for the process that encodes it.

    A document stays with any of its paragraphs. No file: all stay.
    """

    path: Path | None

    def load(self) -> Bool[np.ndarray, "_"] | None:
        """One value for each paragraph of all documents of the bundle."""
        return np.load(self.path) if self.path else None


@dataclasses.dataclass(frozen=True)
class Selection:
    """What stays of each bundle, and what of all of them goes.

    Attributes:
      kept: of each bundle.
      removed: documents and paragraphs that go, by cause; `emptied_documents` are those whose
        paragraphs all were repeated.
      repeated_share: share of the characters left that repeat an earlier paragraph.
      most_repeated: paragraphs, `array` is the bundle, `position` counts its paragraphs.
    """

    kept: list[Kept]
    removed: dict[str, int]
    repeated_share: float
    most_repeated: list[Repeated]


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
    documents = Column(surveys, "document_hashes")
    paragraphs = Column(surveys, "paragraph_hashes")
    stays = [np.ones(len(hashes), bool) for hashes in documents]
    removed = {cause: sum(found.counts[cause] for found in surveys) for cause in DROPPED}

    def keep(cause: str, masks: Iterable[np.ndarray]) -> None:
        removed[cause] = 0
        for own, mask in zip(stays, masks, strict=True):
            removed[cause] += int(np.count_nonzero(own & ~mask))
            own &= mask

    # What one step leaves is all that the next one sees: a copy of text that is not used is no
    # repetition of it.
    keep("documents_not_sampled", map(in_share, documents, shares))
    if settings.deduplicate:
        keep("duplicate_documents", first_occurrences(documents, stays))
    if settings.near_duplicates:
        signatures = Column(surveys, "signatures")
        near = near_duplicates(signatures, settings.near_duplicates, stays)
        keep("near_duplicates", (~mask for mask in near))
    of_kept = [
        np.repeat(own, found.paragraph_counts) for own, found in zip(stays, surveys, strict=True)
    ]
    first_paragraphs = first_occurrences(paragraphs, of_kept)
    removed |= {"repeated_paragraphs": 0, "emptied_documents": 0}
    kept, left = [], []
    characters = repeated_characters = 0
    for index, found in enumerate(surveys):
        lengths, paragraph_stays = found.paragraph_lengths, of_kept[index]
        if settings.deduplicate:
            is_repeated = paragraph_stays & ~first_paragraphs[index] & (lengths >= LONG_PARAGRAPH)
            removed["repeated_paragraphs"] += int(np.count_nonzero(is_repeated))
            paragraph_stays = paragraph_stays & ~is_repeated
            has_text = _any_of_each(paragraph_stays, found.paragraph_counts)
            removed["emptied_documents"] += int(np.count_nonzero(stays[index] & ~has_text))
            stays[index] &= has_text
        path = None
        if not paragraph_stays.all():
            path = directory / f"kept-{index:05d}.npy"
            np.save(path, paragraph_stays)
        kept.append(Kept(path))
        left.append(documents[index][stays[index]])
        characters += int(lengths[paragraph_stays].sum())
        repeated_characters += int(lengths[paragraph_stays & ~first_paragraphs[index]].sum())
    _check_splits(left, settings)
    return Selection(
        kept=kept,
        removed=removed,
        repeated_share=repeated_characters / characters,
        most_repeated=most_repeated(paragraphs, REPEATED_SHOWN),
    )


def _any_of_each(
    mask: Bool[np.ndarray, "paragraphs"], counts: UInt32[np.ndarray, "D"]
) -> Bool[np.ndarray, "D"]:
    """For each of neighbouring groups, of `counts` values each, whether any value is true."""
    document = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(document[mask], minlength=len(counts)) > 0


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
