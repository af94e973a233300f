"""The page of one run."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bert_jax.common import page
from bert_jax.common.atomic import write_text
from bert_jax.interop.usage import pytorch_lines
from bert_jax.run import goodput
from bert_jax.run.report.curves import curves, marks
from bert_jax.run.report.history import History, read
from bert_jax.run.workdir import HUGGING_FACE

FILE = "report.html"
RELOAD_SECONDS = 60  # of a page that is open while the run goes on
EVALUATIONS_SHOWN = 8  # of the sentences that are filled
EVENTS_SHOWN = 40
Rows = list[list[Any]]


def write(workdir: Path, warnings: Sequence[str] = ()) -> Path:
    """Write `report.html` of the run in `workdir`, finished or not, and return its path.

    Args:
      workdir: of the run.
      warnings: what the reader must know first; shown at the top.
    """
    path = workdir / FILE
    write_text(path, document(read(workdir), warnings))
    return path


def document(run: History, warnings: Sequence[str] = ()) -> str:
    """The page of a run."""
    total = run.settings.total_steps
    is_finished = run.finished is not None or run.step >= total
    written = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    state = "finished" if is_finished else f"at step {run.step:,} of {total:,}"
    again = "" if is_finished else ", renewed at every evaluation; an open page reloads by itself"
    return page.page(
        f"Training run {run.name}",
        page.warnings([*warnings, *_warnings(run)], none=""),
        page.tiles(_tiles(run)),
        page.section("Curves", page.charts(curves([run])), _no_records(run)),
        page.section("What the model fills in", *_samples(run)),
        page.section("Held-out figures", page.table(*_held_out(run))),
        page.section("Where the time went", page.table(["", "seconds", "share"], _time(run))),
        page.section("What happened", page.table(["step", ""], _happened(run), none="nothing yet")),
        page.section("Corpus", *_corpus(run)),
        page.section(
            f"Config, as its difference from {run.preset_name or 'the defaults'}", *_config(run)
        ),
        page.section("Use it", *_usage(run)),
        subtitle=f"{state[0].upper()}{state[1:]}. Written {written}{again}.",
        reload_seconds=0 if is_finished else RELOAD_SECONDS,
    )


def _warnings(run: History) -> list[str]:
    recorded = [event["text"] for event in run.events if event["event"] == "warning"]
    of_corpus = run.corpus["warnings"] if run.corpus else []
    finished = run.finished["warnings"] if run.finished else []
    return list(dict.fromkeys([*finished, *recorded, *of_corpus]))


def _no_records(run: History) -> str:
    return "" if run.records else page.paragraph("No step has been logged yet.", "note")


def _tiles(run: History) -> Iterator[tuple[str, str]]:
    held_out, train = run.last("heldout") or {}, run.last("train") or {}
    if "mlm_accuracy" in held_out:
        yield f"{held_out['mlm_accuracy']:.1%}", "held-out accuracy of masked tokens"
    if "mlm_loss" in held_out:
        yield f"{held_out['mlm_loss']:.3f}", "held-out loss of masked tokens"
    yield f"{run.step:,}", f"of {run.settings.total_steps:,} steps"
    yield short(run.tokens(run.step)), "tokens seen"
    if "tokens_per_second" in train:
        yield short(train["tokens_per_second"]), "tokens a second"
    if "mfu" in train:
        yield f"{train['mfu']:.1%}", "MFU"
    if run.seconds:
        whole = sum(run.seconds.values())
        yield duration(whole), "in all"
        yield f"{run.seconds.get('steps', 0.0) / whole:.1%}", "of it training (goodput)"


def _samples(run: History) -> Iterator[str]:
    if not run.samples:
        yield page.paragraph(
            "Shown after the first evaluation of a run that predicts masked tokens, if held-out "
            "text has short sentences.",
            "note",
        )
        return
    last = len(run.samples) - 1
    count = min(EVALUATIONS_SHOWN, len(run.samples))
    shown = [run.samples[round(i * last / max(count - 1, 1))] for i in range(count)]
    yield page.paragraph("The same held-out sentences at each evaluation.", "note")
    for index, sentence in enumerate(run.samples[-1]["sentences"]):
        rows: Rows = [
            [each["step"], *(f"{text} {share:.0%}" for text, share in guesses)]
            for each in shown
            if index < len(each["sentences"]) and (guesses := each["sentences"][index]["guesses"])
        ]
        most = max(map(len, rows))
        yield page.paragraph(f"{sentence['text']}   (it was: {sentence['word']})")
        yield page.table(["step", "guesses", *[""] * (most - 2)], rows)


def _held_out(run: History) -> tuple[list[str], Rows]:
    records = [record for record in run.records if record["split"] != "train"]
    names = [name for name in dict.fromkeys(n for r in records for n in r) if name != "time"]
    shown = [name.replace("_", " ") for name in names]
    return shown, [[record.get(name, "") for name in names] for record in records]


def _time(run: History) -> Rows:
    whole = sum(run.seconds.values())
    names = goodput.KINDS | {
        goodput.LOST: "work that was lost and made again",
        goodput.DOWN: "no process was there",
    }
    return [
        [f"{kind}: {names.get(kind, '')}", float(seconds), f"{seconds / whole:.1%}"]
        for kind, seconds in run.seconds.items()
    ]


def _happened(run: History) -> Rows:
    told = [[mark.x, mark.text] for mark in marks(run) if mark.kind != "checkpoint"]
    if saved := [event["step"] for event in run.events if event["event"] == "checkpoint"]:
        told.append([saved[-1], f"{len(saved):,} checkpoints so far; this is the newest"])
    return sorted(told)[-EVENTS_SHOWN:]


def _corpus(run: History) -> Iterator[str]:
    facts = run.corpus
    if facts is None:
        yield page.paragraph("Its figures (report.json of the token store) are not here.", "note")
        return
    train, held_out = facts["splits"]["train"], facts["splits"]["heldout"]
    seen = run.tokens(run.settings.total_steps)
    rows = [
        ["source", str(run.values["corpus.source"])],
        ["documents to train on", train["documents"]],
        ["tokens to train on", train["tokens"]],
        ["epochs in this run", f"{seen / max(train['tokens'], 1):.1f}"],
        ["documents held out", held_out["documents"]],
        ["tokens held out", held_out["tokens"]],
        ["tokens in the vocabulary", facts["vocab_size"]],
        ["characters a token", f"{facts['characters_per_token']:.2f}"],
        ["unknown tokens", f"{facts['unknown_rate']:.3%}"],
        ["unigram entropy in nats", f"{facts['unigram_entropy']:.3f}"],
    ]
    yield page.table(["", ""], rows)
    yield page.paragraph(
        "At a loss near the unigram entropy a model knows only how frequent each token is.",
        "note",
    )
    store = run.settings.store_directory(run.workdir)
    if store == run.workdir / "corpus":
        yield page.link("All figures of the corpus", "corpus/report.html")


def _config(run: History) -> Iterator[str]:
    rows = [[name, text(old), text(new)] for name, old, new in differences(run)]
    yield page.table(["field", "there", "here"], rows, none="no difference")
    every = [[name, text(value)] for name, value in run.values.items()]
    yield page.details("All fields", page.table(["field", "value"], every))


def differences(run: History) -> list[tuple[str, Any, Any]]:
    """Fields that are not as in the run's preset: name, there, here."""
    names = run.values.keys() | run.preset_values.keys()
    pairs = [(name, run.preset_values.get(name), run.values.get(name)) for name in sorted(names)]
    return [(name, old, new) for name, old, new in pairs if text(old) != text(new)]


def text(value: Any) -> str:
    """The value of a field, lists and tuples alike."""
    return str(list(value) if isinstance(value, tuple) else value)


def _usage(run: History) -> Iterator[str]:
    yield page.paragraph("With its newest checkpoint:")
    yield page.code(
        f"python -m bert_jax.fill_mask --workdir={run.workdir} --text='... {run.mask} ...'\n"
        f"python -m bert_jax.evaluate --workdir={run.workdir}\n"
        f"python -m bert_jax.convert export --workdir={run.workdir} --out={run.workdir}/hf"
    )
    if (folder := run.workdir / HUGGING_FACE).exists():
        yield page.paragraph("In PyTorch, with the folder that the run exported:")
        yield page.code(pytorch_lines(folder, run.mask))


def short(value: float | int) -> str:
    """`3.1 M` for 3,072,000."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: float | int) -> str:
    """`2 d 3 h`, `1 h 5 min` or `4 min 12 s`."""
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts, left = [], round(seconds)
    for size, name in units:
        if count := left // size:
            parts.append(f"{count} {name}")
        left %= size
    return " ".join(parts[:2]) or "0 s"
