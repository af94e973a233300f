"""The report of a fine-tuning: figures, learning curves, confusion matrix, the worst errors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from bert_jax.common import page
from bert_jax.common.atomic import write_text
from bert_jax.run import metrics
from bert_jax.run.finetuned import RESULT, SEEDS
from bert_jax.run.finetuning import Finetuning
from bert_jax.tasks.base import Prediction
from bert_jax.tasks.data import Record
from bert_jax.tasks.prepared import Prepared

FILE = "report.html"
SHOWN_ERRORS = 25
SHOWN_CLASSES = 20  # of a confusion matrix; more do not fit
SHOWN_CHARACTERS = 300


def write(
    run: Finetuning, results: Mapping[str, Mapping[str, Any]], best: Mapping[str, Any]
) -> Path:
    """Write `report.html` and return its path.

    Args:
      run: finished.
      results: by task, as in results.json.
      best: what the best seed ended with.
    """
    blocks = [curves(run)]
    for prepared in run.tasks:
        lines = (
            run.directory / SEEDS / str(best["seed"]) / f"predictions-{prepared.task.name}.jsonl"
        )
        with lines.open(encoding="utf-8") as file:  # texts may hold what splitlines() divides at
            found = [json.loads(line) for line in file]
        blocks += of_task(run, prepared, results[prepared.task.name], found)
    config = page.details("Config", page.code((run.directory / "config.json").read_text()))
    path = run.directory / FILE
    title = f"Fine-tuning {run.directory}"
    write_text(path, page.page(title, *blocks, config, subtitle=f"from {run.settings.init}"))
    return path


def curves(run: Finetuning) -> str:
    """The training loss and the metric on the validation split, a line a seed."""
    losses, scores = [], []
    for number, directory in enumerate(sorted((run.directory / SEEDS).iterdir())):
        if not (directory / RESULT).is_file():
            continue
        records = metrics.read(directory)
        train = [r for r in records if r["split"] == "train"]
        validation = [r for r in records if "selection" in r]
        name = f"seed {directory.name}"
        if train:
            x, y = [r["step"] for r in train], [r["loss"] for r in train]
            losses.append(page.Line(name, x, y, color=number))
        x, y = [r["step"] for r in validation], [r["selection"] for r in validation]
        scores.append(page.Line(name, x, y, color=number, has_points=True))
    metric = run.tasks[0].task.metric if len(run.tasks) == 1 else "mean of the metrics"
    found = [page.Chart("Loss in training", "step", losses)] if losses else []
    found.append(page.Chart(f"{metric} on the validation split", "step", scores))
    return page.section("Learning curves", page.charts(found))


def of_task(
    run: Finetuning, prepared: Prepared, result: Mapping[str, Any], found: Sequence[Prediction]
) -> list[str]:
    """The sections of one task."""
    task, records = prepared.task, prepared.records[run.reported]
    spread = f" ± {result['std']:.4f}" if len(result["seeds"]) > 1 else ""
    value = f"{result['value']:.4f}{spread}"
    tiles = page.tiles(
        [
            (value, f"{task.metric}, {run.reported}"),
            (f"{result['baseline']:.4f}", "majority class"),
            (f"{result['untrained']:.4f}", "before training"),
        ]
    )
    rows = [(name, value) for name, value in result["metrics"].items()]
    blocks = [page.section(task.name, tiles, page.table(["metric", "mean of the seeds"], rows))]
    pair = task.confusion(found, records)
    if pair is not None:
        blocks += [per_class(*pair), confusion(*pair)]
    blocks.append(worst_errors(prepared, found, records))
    return blocks


def per_class(gold: Sequence[str], predicted: Sequence[str]) -> str:
    """Precision, recall and F1 of each class."""
    labels = sorted({*gold, *predicted})
    figures = sklearn_metrics.precision_recall_fscore_support(
        gold, predicted, labels=labels, zero_division=0
    )
    rows = [
        (label, *(float(column[i]) for column in figures[:3]), int(figures[3][i]))
        for i, label in enumerate(labels)
    ]
    head = ["class", "precision", "recall", "F1", "examples"]
    return page.section("By class", page.table(head, rows))


def confusion(gold: Sequence[str], predicted: Sequence[str]) -> str:
    """A picture of how often each class was taken for each other one; rows are the right ones."""
    labels, counts = np.unique(np.array(gold), return_counts=True)
    kept = [str(label) for label in labels[np.argsort(-counts, kind="stable")][:SHOWN_CLASSES]]
    matrix = sklearn_metrics.confusion_matrix(gold, predicted, labels=kept)
    note = "" if len(labels) <= SHOWN_CLASSES else f"The {SHOWN_CLASSES} most frequent classes. "
    text = page.paragraph(f"{note}Rows: the right class; columns: the predicted one.", "note")
    return page.section("Confusion matrix", text, _heat_map(matrix, kept))


def _heat_map(matrix: np.ndarray, labels: Sequence[str]) -> str:
    """An SVG element: a square a cell, as dark as the cell's share of its row."""
    import html

    size, left = 44, 120
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    parts = []
    for row, label in enumerate(labels):
        short = html.escape(label[:16])
        y = 40 + row * size
        parts.append(f'<text x="{left - 8}" y="{y + 27}" text-anchor="end">{short}</text>')
        x = left + row * size + size / 2
        parts.append(f'<text x="{x}" y="30" text-anchor="middle">{short[:6]}</text>')
        for column in range(len(labels)):
            share, count = shares[row, column], matrix[row, column]
            x = left + column * size
            ink = ' fill="white"' if share > 0.5 else ""
            parts.append(
                f'<rect x="{x}" y="{y}" width="{size - 2}" height="{size - 2}" '
                f'fill="#2563eb" fill-opacity="{0.05 + 0.9 * share:.2f}"/>'
                f'<text x="{x + size / 2 - 1}" y="{y + 27}" text-anchor="middle"{ink}>'
                f"{count}</text>"
            )
    width, height = left + len(labels) * size, 44 + len(labels) * size
    return (
        f'<div class="wide"><svg viewBox="0 0 {width} {height}" width="{width}" '
        f'font-size="12" fill="currentColor" role="img">{"".join(parts)}</svg></div>\n'
    )


def worst_errors(prepared: Prepared, found: Sequence[Prediction], records: Sequence[Record]) -> str:
    """Wrong predictions to read, the surest first."""
    rated = [
        (rate, index)
        for index, (prediction, record) in enumerate(zip(found, records, strict=True))
        if (rate := prepared.task.wrongness(prediction, record)) > 0
    ]
    rated.sort(key=lambda pair: (-pair[0], pair[1]))
    rows = []
    for rate, index in rated[:SHOWN_ERRORS]:
        record, prediction = records[index], found[index]
        rows.append(
            (
                shortened(prepared.task.text_of(record)),
                *map(shortened, prepared.task.contrast(prediction, record)),
                float(rate),
            )
        )
    head = ["example", "right", "predicted", "how wrong"]
    return page.section("The worst errors", page.table(head, rows, none="There are no errors."))


def shortened(value: Any) -> str:
    """A value as a short text."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
