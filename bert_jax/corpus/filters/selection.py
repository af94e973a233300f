"""Selects the text that enters the store: a share of the documents, without duplicates."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt32

from bert_jax.common.errors import UserError
from bert_jax.corpus.filters.dedup import (
    LONG_PARAGRAPH,
    Repeated,
    first_occurrences,
    in_share,
    most_repeated,
)
from bert_jax.corpus.filters.heldout import Chooser, HeldOut, fraction_for
from bert_jax.corpus.filters.near_duplicates import near_duplicates
from bert_jax.corpus.settings import Needs, Settings
from bert_jax.corpus.sources import Bundle, parse
from bert_jax.corpus.survey import DROPPED, Column, Survey, read_documents

REPEATED_SHOWN = 10
QUOTED = 200  # characters of a repeated paragraph

# What a document is by `config.corpus.documents`, and what to do where there is only one.
_DOCUMENTS = {
    "blank_line": "a document ends at a blank line; if each line is one, set line; if each file is "
    "one, set file",
    "line": "each line is a document; if a document ends at a blank line, set blank_line",
    "file": "each file is a document; if a document ends at a blank line, set blank_line; if each "
    "line is one, set line",
}


@dataclasses.dataclass(frozen=True)
class Kept:
    """Which paragraphs of a bundle are kept, in a file for the process that encodes it.

    A document is kept if any of its paragraphs is. No file: all are kept.
    """

    path: Path | None

    def load(self) -> Bool[np.ndarray, "_"] | None:
        """One value for each paragraph of all documents of the bundle."""
        return np.load(self.path, allow_pickle=False) if self.path else None


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is kept of each bundle, and what is removed in total.

    Attributes:
      kept: of each bundle.
      heldout: which documents of all bundles are held out.
      removed: documents and paragraphs, by cause; `emptied_documents` are those whose paragraphs
        all were repeated.
      repeated_share: share of the characters left that repeat an earlier paragraph.
      most_repeated: paragraphs, `array` is the bundle, `position` counts its paragraphs.
    """

    kept: list[Kept]
    heldout: HeldOut
    removed: dict[str, int]
    repeated_share: float
    most_repeated: list[Repeated]


def select(
    surveys: Sequence[Survey],
    shares: Sequence[float],
    settings: Settings,
    needs: Needs,
    directory: Path,
) -> Selection:
    """Decides from the surveys of all bundles; masks go into `directory`.

    Args:
      surveys: of all bundles.
      shares: of the documents of each bundle, to use.
      settings: of the store.
      needs: of the run that the store is made for.
      directory: where the masks go.

    Raises:
      UserError: there are fewer than two documents, or a split has fewer than are needed.
    """
    documents = Column(surveys, "document_hashes")
    paragraphs = Column(surveys, "paragraph_hashes")
    stays = [np.ones(len(hashes), bool) for hashes in documents]
    removed = {cause: sum(each.counts[cause] for each in surveys) for cause in DROPPED}

    def keep(cause: str, masks: Iterable[np.ndarray]) -> None:
        removed[cause] = 0
        for stay, mask in zip(stays, masks, strict=True):
            removed[cause] += int(np.count_nonzero(stay & ~mask))
            stay &= mask

    # Each step sees only what the previous ones kept: a copy of unused text is not a duplicate.
    keep("documents_not_sampled", map(in_share, documents, shares))
    if settings.deduplicate:
        keep("duplicate_documents", first_occurrences(documents, stays))
    if settings.near_duplicates:
        signatures = Column(surveys, "signatures")
        near = near_duplicates(signatures, settings.near_duplicates, stays)
        keep("near_duplicates", (~mask for mask in near))
    of_kept = [
        np.repeat(stay, each.paragraph_counts) for stay, each in zip(stays, surveys, strict=True)
    ]
    first_paragraphs = first_occurrences(paragraphs, of_kept)
    removed |= {"repeated_paragraphs": 0, "emptied_documents": 0}
    kept = []
    split = Chooser(settings.heldout_fraction)
    characters = repeated_characters = 0
    for index, each in enumerate(surveys):
        lengths, paragraph_stays = each.paragraph_lengths, of_kept[index]
        if settings.deduplicate:
            is_repeated = paragraph_stays & ~first_paragraphs[index] & (lengths >= LONG_PARAGRAPH)
            removed["repeated_paragraphs"] += int(np.count_nonzero(is_repeated))
            paragraph_stays = paragraph_stays & ~is_repeated
            has_text = _sum_of_each(paragraph_stays, each.paragraph_counts) > 0
            removed["emptied_documents"] += int(np.count_nonzero(stays[index] & ~has_text))
            stays[index] &= has_text
        path = None
        if not paragraph_stays.all():
            path = directory / f"kept-{index:05d}.npy"
            np.save(path, paragraph_stays)
        kept.append(Kept(path))
        of_documents = _sum_of_each(np.where(paragraph_stays, lengths, 0), each.paragraph_counts)
        split.add(documents[index][stays[index]], of_documents[stays[index]])
        characters += int(of_documents.sum())
        repeated_characters += int(lengths[paragraph_stays & ~first_paragraphs[index]].sum())
    if split.documents < 2:
        raise _too_few_documents(split.documents, settings)
    heldout, heldout_documents = split.choose()
    advice = "raise it"
    if 0 < heldout_documents < needs.documents <= split.documents // 2:
        # The corpus is tiny: the floor gives two documents where there are more than ten.
        hashes = np.concatenate([each[stay] for each, stay in zip(documents, stays, strict=True)])
        advice = f"set it to {fraction_for(hashes, needs.documents)}"
    expect_enough("heldout", heldout_documents, settings, needs, advice)
    expect_enough("train", split.documents - heldout_documents, settings, needs)
    return Selection(
        kept=kept,
        heldout=heldout,
        removed=removed,
        repeated_share=repeated_characters / characters,
        most_repeated=most_repeated(paragraphs, REPEATED_SHOWN),
    )


def _sum_of_each(
    values: Shaped[np.ndarray, "paragraphs"], counts: UInt32[np.ndarray, "D"]
) -> Int64[np.ndarray, "D"]:
    """For each document the sum of the values of its `counts` paragraphs, at least one."""
    starts = np.cumsum(counts, dtype=np.int64) - counts
    return np.add.reduceat(values, starts, dtype=np.int64) if len(counts) else np.zeros(0, np.int64)


def _too_few_documents(count: int, settings: Settings) -> UserError:
    held = f"{count} document" if count else "no document"
    fix = "add documents"
    texts = [source.name for source in parse(settings.source) if source.kind == "text"]
    if texts:
        border = settings.of(texts[0]).reading.documents
        fix = f"with config.corpus.documents={border} {_DOCUMENTS[border]}"
    return UserError(
        f"config.corpus.source={settings.source!r} holds {held}, duplicates left out, and two are "
        f"the least: {fix}"
    )


def expect_enough(
    split: str, documents: int, settings: Settings, needs: Needs, advice: str = ""
) -> None:
    """Raise if a split has too few documents; `advice` is about the fraction that is held out.

    Raises:
      UserError: it has none, or fewer than the run needs.
    """
    if documents >= max(1, needs.documents):
        return
    advice = advice or ("raise it" if split == "heldout" else "lower it")
    count = f"{documents} document{'s' if documents > 1 else ''}" if documents else "no document"
    needed = other = ""
    if documents:
        needed = f", and config.stream.objective={needs.objective} needs {needs.documents}"
        other = ", or set config.stream.objective=packed and config.model.next_sentence=False"
    raise UserError(
        f"config.corpus.heldout_fraction={settings.heldout_fraction} leaves {count} of "
        f"{settings.source!r} in the {split} split{needed}: {advice}, or add documents{other}"
    )


def quote(bundle: Bundle, settings: Settings, paragraph: int) -> str:
    """The beginning of a paragraph of a bundle; reads the bundle up to it."""
    documents = (read_documents(part, settings, Counter()) for part in bundle.parts)
    paragraphs = itertools.chain.from_iterable(itertools.chain.from_iterable(documents))
    return next(itertools.islice(paragraphs, paragraph, None))[:QUOTED]
