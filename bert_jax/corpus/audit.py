"""Statistics of a token store, and warnings about what is likely to ruin a training run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from bert_jax.corpus.filters.cleaning import MAX_DOCUMENT
from bert_jax.corpus.settings import Needs
from bert_jax.corpus.store import Shard, TokenStore
from bert_jax.corpus.store.manifest import count_by_source
from bert_jax.corpus.store.token_counts import count_tokens
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary

SENTENCE_BINS = 129  # tokens of a sentence: 0...127, and 128 or more
DOCUMENT_BINS = 24  # tokens of a document: bin i holds 2^i to 2^(i+1) - 1
RARE = 10  # an id that occurs less often in training text is hardly learned
SMALL_HELDOUT = 1000  # tokens: 150 predictions give an accuracy to within 4 %
SAMPLES = 5
SAMPLE_TOKENS = 120


@dataclasses.dataclass(frozen=True)
class Figures:
    """Counts over some shards.

    Attributes:
      frequencies: [V], how often each id occurs, [CLS] and [SEP] of documents left out.
      sentence_lengths: [SENTENCE_BINS], sentences by tokens.
      document_lengths: [DOCUMENT_BINS], documents by the power of two of their tokens.
      longest_document: its tokens.
    """

    frequencies: Int64[np.ndarray, "V"]
    sentence_lengths: Int64[np.ndarray, "bins"]
    document_lengths: Int64[np.ndarray, "powers"]
    longest_document: int


def count(directory: Path, vocabulary: Vocabulary) -> Figures:
    """The figures of the shard in `directory`."""
    shard = Shard.open(directory)
    frequencies = count_tokens(shard.tokens, vocabulary.size)
    frequencies[[vocabulary.cls_id, vocabulary.sep_id]] -= shard.num_documents
    ends = np.append(shard.sentence_offsets[1:], 0)
    ends[shard.document_sentences[1:] - 1] = shard.document_offsets[1:] - 1
    sentences = np.minimum(ends - shard.sentence_offsets, SENTENCE_BINS - 1)
    documents = np.diff(shard.document_offsets) - 2
    powers = np.minimum(np.log2(documents).astype(np.int64), DOCUMENT_BINS - 1)
    return Figures(
        frequencies,
        np.bincount(sentences, minlength=SENTENCE_BINS),
        np.bincount(powers, minlength=DOCUMENT_BINS),
        int(documents.max()),
    )


def total(figures: Sequence[Figures]) -> Figures:
    """The figures of several shards together."""
    return Figures(
        np.sum([part.frequencies for part in figures], axis=0),
        np.sum([part.sentence_lengths for part in figures], axis=0),
        np.sum([part.document_lengths for part in figures], axis=0),
        max(part.longest_document for part in figures),
    )


def audit(
    store: TokenStore,
    figures: dict[str, Figures],
    repeated: list[dict[str, Any]],
    needs: Needs,
) -> dict[str, Any]:
    """What the report shows, as `report.json` holds it.

    Args:
      store: the store, its manifest complete.
      figures: of each split.
      repeated: the most repeated paragraphs, with `times` and `text`.
      needs: of the run that the store is made for.
    """
    train = figures["train"]
    tokens = int(train.frequencies.sum())
    counts = store.manifest["splits"]
    shares = train.frequencies / tokens
    facts = {
        "splits": {
            name: {key: value for key, value in split.items() if key != "shards"}
            for name, split in counts.items()
        },
        "heldout_share": counts["heldout"]["tokens"]
        / (counts["heldout"]["tokens"] + counts["train"]["tokens"]),
        "heldout_has_floor": store.manifest["heldout"]["start"] is not None,
        "by_source": count_by_source(store.manifest["sources"]),
        "sources": store.manifest["sources"],
        "documents_read": store.manifest["documents_read"],
        "removed": store.manifest["removed"],
        "changed": store.manifest["changed"],
        "repeated_share": store.manifest["repeated_share"],
        "vocab_size": store.vocabulary.size,
        "unknown_rate": float(shares[store.vocabulary.unk_id]),
        "characters_per_token": counts["train"]["characters"] / tokens,
        "sentences_per_document": counts["train"]["sentences"] / counts["train"]["documents"],
        "longest_document_share": train.longest_document / tokens,
        "unigram_entropy": entropy(shares),
        "most_frequent_share": float(shares.max()),
        "rare_pieces": int(np.count_nonzero(_ordinary(train, store.vocabulary) < RARE)),
        "frequencies_by_rank": by_rank(_ordinary(train, store.vocabulary)),
        "sentence_lengths": {
            name: split.sentence_lengths.tolist() for name, split in figures.items()
        },
        "document_lengths": {
            name: split.document_lengths.tolist() for name, split in figures.items()
        },
        "repeated": repeated,
        "samples": samples(store),
    }
    return {**facts, "warnings": warnings(facts) + pair_warnings(store.manifest, needs)}


def entropy(shares: Float[np.ndarray, "V"]) -> float:
    """Entropy of a distribution in nats: the loss of a model that knows only the frequencies."""
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def by_rank(frequencies: Int64[np.ndarray, "V"]) -> list[list[int]]:
    """[rank, frequency] of ids at about evenly spaced logarithms of the rank."""
    ordered = np.sort(frequencies)[::-1]
    ranks = np.unique(np.geomspace(1, len(ordered), 200).astype(int))
    return [[int(rank), int(ordered[rank - 1])] for rank in ranks]


def samples(store: TokenStore) -> list[list[str]]:
    """The beginnings of a few training documents, each token as text."""
    tokenizer = load_tokenizer(store.tokenizer_directory)
    names = store.manifest["splits"]["train"]["shards"]
    spread = np.linspace(0, len(names) - 1, SAMPLES).astype(int)
    picked = [Shard.open(store.directory / names[i]) for i in spread]
    beginnings = []
    for number, shard in enumerate(picked):
        document = shard.num_documents * number // SAMPLES
        begin, end = shard.document_offsets[document : document + 2]
        ids = shard.tokens[begin + 1 : min(end - 1, begin + 1 + SAMPLE_TOKENS)]
        beginnings.append([tokenizer.piece(int(id)) for id in ids])
    return beginnings


def pair_warnings(manifest: dict[str, Any], needs: Needs) -> list[str]:
    """Warnings about a store for an objective whose examples need several sentences."""
    counts = manifest["splits"]["train"]
    mean = counts["sentences"] / counts["documents"]
    if mean >= needs.sentences:
        return []
    advice = "see whether config.corpus.documents and config.corpus.lines are right"
    if not manifest["settings"]["split_sentences"]:
        advice += ", and turn on config.corpus.split_sentences"
    return [
        f"a document has {mean:.1f} sentences on average, and an example of "
        f"config.stream.objective needs {needs.sentences}: {advice}"
    ]


def warnings(facts: dict[str, Any]) -> list[str]:
    """One sentence, with the fix, for each problem that ruins runs silently."""
    messages = []
    heldout = facts["splits"]["heldout"]
    if heldout["tokens"] - 2 * heldout["documents"] < SMALL_HELDOUT:
        messages.append(
            f"only {heldout['documents']:,} documents with {heldout['tokens']:,} tokens are held "
            "out, so evaluation will be inaccurate: raise config.corpus.heldout_fraction, or add "
            "text"
        )
    if facts["unknown_rate"] > 0.01:
        messages.append(
            f"{facts['unknown_rate']:.1%} of the tokens are unknown: raise "
            "config.tokenizer.character_coverage, or use a tokenizer made for this text"
        )
    if facts["longest_document_share"] > 0.5:
        messages.append(
            f"one document holds {facts['longest_document_share']:.0%} of the text: documents are "
            "separated by blank lines, see whether yours are"
        )
    if long := facts["changed"]["cut_documents"]:
        messages.append(
            f"{long:,} documents had more than {MAX_DOCUMENT:,} characters and were cut there: "
            "documents are separated by blank lines, see whether yours are"
        )
    if facts["repeated_share"] > 0.3:
        messages.append(
            f"{facts['repeated_share']:.0%} of the text is paragraphs that occur more than "
            "once: turn on config.corpus.deduplicate, or remove the boilerplate that the report "
            "lists"
        )
    if facts["rare_pieces"] > facts["vocab_size"] / 2:
        messages.append(
            f"{facts['rare_pieces']:,} of the {facts['vocab_size']:,} tokens of the vocabulary "
            f"occur less than {RARE} times: use a smaller vocabulary (config.tokenizer.vocab_size "
            f"of about {facts['vocab_size'] - facts['rare_pieces']:,}), or add text"
        )
    return messages


def _ordinary(figures: Figures, vocabulary: Vocabulary) -> Int64[np.ndarray, "W"]:
    """Frequencies of the ids that are not special."""
    return figures.frequencies[~vocabulary.is_special]
