"""One page of several runs: their curves over one another, and where their configs differ."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_jax.common import page
from bert_jax.run.report.curves import curves
from bert_jax.run.report.document import duration, short, text
from bert_jax.run.report.history import History


def document(runs: Sequence[History]) -> str:
    """The page of several runs."""
    names = [run.name for run in runs]
    return page.page(
        f"{len(runs)} runs",
        page.section("At their end", page.table(["", *names], _last(runs))),
        page.section(
            "Where their configs differ",
            page.table(["field", *names], config_differences(runs), none="nowhere"),
        ),
        page.section("Curves", page.charts(curves(runs))),
        subtitle=", ".join(str(run.workdir) for run in runs),
    )


def default_path(runs: Sequence[History]) -> Path:
    """Next to the runs: `comparison.html` in the directory that holds all of them."""
    return Path(os.path.commonpath([run.workdir.resolve().parent for run in runs])) / (
        "comparison.html"
    )


def config_differences(runs: Sequence[History]) -> list[list[str]]:
    """A row for each field that the runs do not share: its name, and its value in each run."""
    names = sorted({name for run in runs for name in run.values})
    rows = [[name, *(text(run.values.get(name, "")) for run in runs)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _last(runs: Sequence[History]) -> list[list[Any]]:
    figures: dict[str, list[Any]] = {
        "step": [run.step for run in runs],
        "tokens seen": [short(run.tokens(run.step)) for run in runs],
        "time": [duration(sum(run.seconds.values())) if run.seconds else "" for run in runs],
    }
    held_out = [run.last("heldout") or {} for run in runs]
    for name in dict.fromkeys(name for record in held_out for name in record):
        if name not in ("step", "split", "time"):
            figures[f"held-out {name.replace('_', ' ')}"] = [r.get(name, "") for r in held_out]
    return [[name, *values] for name, values in figures.items()]
