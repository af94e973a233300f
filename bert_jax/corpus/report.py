"""The audit of a token store as report.json and as a self-contained HTML page."""

import html
import io
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from bert_jax.common.atomic import write_json, write_text
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

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Corpus</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
  color: #222 }}
td, th {{ padding: 0.1em 1.5em 0.1em 0; text-align: left; vertical-align: top;
  font-variant-numeric: tabular-nums }}
td + td {{ text-align: right }} td.text {{ text-align: left }}
svg {{ width: 100%; height: auto }}
.warning {{ background: #fff3cd; padding: 0.5em 1em; margin: 0.5em 0 }}
.token:nth-child(odd) {{ background: #e8f0fa }} .token:nth-child(even) {{ background: #fdf1e0 }}
p.sample {{ overflow-wrap: anywhere }}
</style>
<h1>Corpus</h1>
{warnings}
<h2>Splits</h2>
{splits}
<h2>Text and tokens</h2>
{figures}
{plots}
<h2>Removed and changed</h2>
{removed}
<h2>The most repeated paragraphs, before removal</h2>
{repeated}
<h2>Sources</h2>
{by_source}
<h2>Files</h2>
{sources}
<h2>Samples, token by token</h2>
{samples}
</html>
"""


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
    write_text(store.directory / "report.html", page(facts))
    warn(facts["warnings"])


def warn(warnings: Sequence[str]) -> None:
    """Prints warnings to stderr."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)


def page(facts: dict[str, Any]) -> str:
    """The HTML page of the figures from `audit.audit`."""
    warnings = facts["warnings"] or ["No warnings."]
    entropy = facts["unigram_entropy"]
    return _PAGE.format(
        warnings="".join(f"<div class=warning>{html.escape(text)}</div>" for text in warnings),
        splits=_table(
            ["", "documents", "sentences", "tokens", "characters"],
            [
                [name, split["documents"], split["sentences"], split["tokens"], split["characters"]]
                for name, split in facts["splits"].items()
            ],
        ),
        figures=_table(
            ["", ""],
            [
                ["held-out share of the tokens", _heldout(facts)],
                ["characters a token", f"{facts['characters_per_token']:.2f}"],
                ["sentences a document", f"{facts['sentences_per_document']:.1f}"],
                ["unknown tokens", f"{facts['unknown_rate']:.3%}"],
                ["tokens in the vocabulary", facts["vocab_size"]],
                ["of them seen less than 10 times", facts["rare_pieces"]],
                ["unigram entropy in nats (a loss near it: nothing learned)", f"{entropy:.3f}"],
                ["share of the most frequent token", f"{facts['most_frequent_share']:.2%}"],
                ["share of the longest document", f"{facts['longest_document_share']:.2%}"],
            ],
        ),
        plots=_plots(facts),
        removed=_table(
            ["", "count"],
            [
                ["documents read", facts["documents_read"]],
                *([_words(cause), n] for cause, n in (facts["removed"] | facts["changed"]).items()),
            ],
        ),
        repeated=_table(
            ["text", "times"], [[entry["text"], entry["times"]] for entry in facts["repeated"]]
        ),
        by_source=_table(
            ["", *_COUNTED],
            [[shown(name), *_counts(counts)] for name, counts in facts["by_source"].items()],
        ),
        sources=_sources(facts["sources"]),
        samples="".join(_sample(tokens) for tokens in facts["samples"]),
    )


def _heldout(facts: dict[str, Any]) -> str:
    why = " (more than heldout_fraction: the corpus is small)" if facts["heldout_has_floor"] else ""
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
    table = _table(["", "bytes", *_COUNTED], rows[:SOURCES_SHOWN])
    if (more := len(rows) - SOURCES_SHOWN) > 0:
        table += f"<p>… and {more} more, in report.json</p>"
    return table


_COUNTS = [(split, name) for split in SPLITS for name in ("documents", "sentences", "tokens")]
_COUNTED = [f"{split} {name}" for split, name in _COUNTS]


def _counts(source: dict[str, Any]) -> list[int]:
    return [source[split][name] for split, name in _COUNTS]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>" if body else "<p>none</p>"


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else html.escape(str(value))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sample(tokens: list[str]) -> str:
    spans = (
        f"<span class=token>{html.escape(token.replace(SPACE, ' '))}</span>" for token in tokens
    )
    return f"<p class=sample>{''.join(spans)}</p>"


def _plots(facts: dict[str, Any]) -> str:
    """Lengths of documents and sentences, and frequency by rank, as one SVG element."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bert_jax"}):
        figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2))
        figure.subplots_adjust(0.075, 0.16, 0.99, 0.97, wspace=0.3)  # automatic layout takes longer
        _shares(
            axes[0], "steps-post", [2**i for i in range(DOCUMENT_BINS)], facts["document_lengths"]
        )
        axes[0].set(xscale="log", xlabel="tokens of a document", ylabel="share of the documents")
        _shares(axes[1], "default", list(range(SENTENCE_BINS)), facts["sentence_lengths"])
        axes[1].set(
            xlabel="tokens of a sentence (last: 128 or more)", ylabel="share of the sentences"
        )
        axes[1].legend(frameon=False)
        axes[2].plot(*zip(*facts["frequencies_by_rank"], strict=True), linewidth=1.2)
        axes[2].set(xscale="log", yscale="symlog", ylim=0, xlabel="rank of a token")
        axes[2].set_ylabel("times seen in training text")
        for axis in axes:
            axis.grid(alpha=0.3)
        picture = io.StringIO()
        figure.savefig(picture, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    text = picture.getvalue()
    return text[text.index("<svg") :]


def _shares(axis: Any, style: str, values: list[int], counts: dict[str, list[int]]) -> None:
    for split, bins in counts.items():
        shares = [count / max(1, sum(bins)) for count in bins]
        axis.plot(values, shares, drawstyle=style, label=split, linewidth=1.2)
