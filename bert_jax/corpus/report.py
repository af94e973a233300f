"""The audit of a token store as report.json and as a self-contained HTML page."""

import html
import sys
from collections.abc import Sequence
from typing import Any

from bert_jax.common import page
from bert_jax.common.atomic import write_json, write_text
from bert_jax.common.page import Chart, Line
from bert_jax.corpus.audit import DOCUMENT_BINS, SENTENCE_BINS, audit, count, total
from bert_jax.corpus.filters.dedup import Repeated
from bert_jax.corpus.filters.selection import quote
from bert_jax.corpus.readers.paths import shown
from bert_jax.corpus.settings import Needs, Settings
from bert_jax.corpus.sources import Bundle
from bert_jax.corpus.store import REPORT, SPLITS, TokenStore
from bert_jax.corpus.store.token_counts import write_counts
from bert_jax.corpus.tokenizers.base import SPACE
from bert_jax.corpus.workers import Workers

SOURCES_SHOWN = 30
# Where more is held out than the config says.
FLOOR_REMARK = "(more than heldout_fraction: the corpus is small)"
SPLIT_COUNTS = ("documents", "sentences", "tokens", "characters")


def read_repeated(
    repeated: Sequence[Repeated],
    texts: Sequence[Bundle],
    settings: Sequence[Settings],
    workers: Workers,
) -> list[dict[str, Any]]:
    """`times` and `text` of repeated paragraphs.

    Args:
      repeated: where they are.
      texts: all bundles.
      settings: of each bundle.
      workers: read the bundles up to the paragraphs.
    """
    calls = [(texts[entry.array], settings[entry.array], entry.position) for entry in repeated]
    quotes = workers.run("quoting", quote, calls, [text.size for text, *_ in calls])
    return [
        {"times": entry.times, "text": text} for entry, text in zip(repeated, quotes, strict=True)
    ]


def write_report(
    store: TokenStore, repeated: list[dict[str, Any]], needs: Needs, workers: Workers
) -> None:
    """Writes report.json, report.html and the counts of the tokens, and prints the warnings."""
    figures = {}
    for split in SPLITS:
        shards = [store.directory / name for name in store.manifest["splits"][split]["shards"]]
        sizes = [(shard / "tokens.npy").stat().st_size for shard in shards]
        calls = [(shard, store.vocabulary) for shard in shards]
        figures[split] = total(workers.run(f"counting {split}", count, calls, sizes))
    write_counts(store.directory, figures["train"].frequencies)
    facts = audit(store, figures, repeated, needs)
    write_json(store.directory / REPORT, facts)
    write_text(store.directory / "report.html", report(facts))
    warn(facts["warnings"])


def warn(warnings: Sequence[str]) -> None:
    """Prints warnings to stderr."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def report(facts: dict[str, Any]) -> str:
    """The HTML page of the figures from `audit.audit`."""
    splits, entropy = facts["splits"], facts["unigram_entropy"]
    repeated = [[entry["text"], entry["times"]] for entry in facts["repeated"]]
    by_source = [[shown(name), *_counts(counts)] for name, counts in facts["by_source"].items()]
    removed = (facts["removed"] | facts["changed"]).items()
    return page.page(
        "Corpus",
        page.warnings(facts["warnings"]),
        page.tiles(
            [
                (f"{splits['train']['tokens']:,}", "tokens to train on"),
                (f"{splits['train']['documents']:,}", "documents to train on"),
                (f"{splits['heldout']['tokens']:,}", "tokens held out"),
                (f"{facts['characters_per_token']:.2f}", "characters a token"),
                (f"{entropy:.2f}", "unigram entropy in nats: a loss near it has learned nothing"),
            ]
        ),
        page.section(
            "Splits",
            page.table(
                ["", *SPLIT_COUNTS],
                [[name, *(split[key] for key in SPLIT_COUNTS)] for name, split in splits.items()],
            ),
        ),
        page.section("Text and tokens", page.table(["", ""], _figures(facts)), _charts(facts)),
        page.section(
            "Removed and changed",
            page.table(
                ["", "count"],
                [
                    ["documents read", facts["documents_read"]],
                    *([_words(k), n] for k, n in removed),
                ],
            ),
        ),
        page.section(
            "The most repeated paragraphs, before removal", page.table(["text", "times"], repeated)
        ),
        page.section("Sources", page.table(["", *_COUNTED], by_source)),
        page.section("Files", _sources(facts["sources"])),
        page.section("Samples, token by token", *map(_sample, facts["samples"])),
    )


def _figures(facts: dict[str, Any]) -> list[list[str | int]]:
    return [
        ["held-out share of the tokens", _heldout(facts)],
        ["sentences a document", f"{facts['sentences_per_document']:.1f}"],
        ["unknown tokens", f"{facts['unknown_rate']:.3%}"],
        ["tokens in the vocabulary", facts["vocab_size"]],
        ["of them seen less than 10 times", facts["rare_pieces"]],
        ["share of the most frequent token", f"{facts['most_frequent_share']:.2%}"],
        ["share of the longest document", f"{facts['longest_document_share']:.2%}"],
    ]


def _heldout(facts: dict[str, Any]) -> str:
    why = f" {FLOOR_REMARK}" if facts["heldout_has_floor"] else ""
    return f"{facts['heldout_share']:.2%}{why}"


def _sources(sources: list[dict[str, Any]]) -> str:
    rows = [
        [
            shown(source["name"]),
            source["bytes"],
            *_counts(source),
        ]
        for source in sorted(sources, key=lambda source: -source["train"]["tokens"])
    ]
    table = page.table(["", "bytes", *_COUNTED], rows[:SOURCES_SHOWN])
    more = len(rows) - SOURCES_SHOWN
    return table + (page.paragraph(f"… and {more} more, in report.json") if more > 0 else "")


_COUNTS = [(split, name) for split in SPLITS for name in ("documents", "sentences", "tokens")]
_COUNTED = [f"{split} {name}" for split, name in _COUNTS]


def _counts(source: dict[str, Any]) -> list[int]:
    return [source[split][name] for split, name in _COUNTS]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sample(tokens: list[str]) -> str:
    spans = (
        f'<span class="token">{html.escape(token.replace(SPACE, " "))}</span>' for token in tokens
    )
    return f'<p class="sample">{"".join(spans)}</p>\n'


def _charts(facts: dict[str, Any]) -> str:
    powers, lengths = [2**i for i in range(DOCUMENT_BINS)], list(range(SENTENCE_BINS))
    ranks, times = zip(*facts["frequencies_by_rank"], strict=True)
    return page.charts(
        [
            Chart(
                "Length of documents",
                "tokens",
                _shares(powers, facts["document_lengths"], is_stepped=True),
                note="Share of the documents with this many tokens, up to twice as many.",
                is_log_x=True,
                percent=True,
            ),
            Chart(
                "Length of sentences",
                "tokens",
                _shares(lengths, facts["sentence_lengths"]),
                note=f"Share of the sentences. The last point: {SENTENCE_BINS - 1} or more.",
                percent=True,
            ),
            Chart(
                "Frequency of tokens",
                "rank",
                [Line("times seen in training text", ranks, times)],
                is_log_x=True,
                is_log_y=True,
            ),
        ]
    )


def _shares(
    lengths: list[int], counts: dict[str, list[int]], is_stepped: bool = False
) -> list[Line]:
    """A line a split; up to the longest there is."""
    longest = max(
        (i for bins in counts.values() for i, count in enumerate(bins) if count), default=0
    )
    return [
        Line(
            split,
            lengths[: longest + 2],
            [count / max(1, sum(bins)) for count in bins[: longest + 2]],
            is_stepped=is_stepped,
        )
        for split, bins in counts.items()
    ]
