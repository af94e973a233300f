"""The end of a fine-tuning: results, predictions, the Hugging Face folder, the report."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bert_jax.common import console
from bert_jax.common.atomic import finished_file, write_json
from bert_jax.common.errors import UserError
from bert_jax.interop import parity, task_heads
from bert_jax.interop.parity_outputs import in_float32
from bert_jax.model import Params, abstract
from bert_jax.run import finetune_report
from bert_jax.run.finetuned import (
    CHECKPOINTS,
    PREDICTIONS,
    RESULTS,
    SEEDS,
    TOKENIZER,
)
from bert_jax.run.finetuning import Finetuning
from bert_jax.tasks.evaluation import compile_forward, place
from bert_jax.tasks.prepared import Prepared
from bert_jax.training.checkpoint import restore_params

HUGGING_FACE = "hf"
COMPARED = 8  # rows of real text on which the export is compared with transformers


def finish(
    run: Finetuning, baseline: Mapping[str, Mapping[str, float]], seeds: Sequence[Mapping[str, Any]]
) -> None:
    """Write what the seeds gave, and print it; the last line is for scripts."""
    best = max(seeds, key=lambda result: result["validation"])
    by_task = {
        prepared.task.name: summary(run, prepared, baseline[prepared.task.name], seeds)
        for prepared in run.tasks
    }
    for prepared in run.tasks:
        prepared.task.restore(best["state"][prepared.task.name])
        source = run.directory / SEEDS / str(best["seed"])
        copy(source / f"predictions-{prepared.task.name}.jsonl", named(run, prepared, PREDICTIONS))
    checkpoints = run.directory / SEEDS / str(best["seed"]) / CHECKPOINTS
    _, shapes = abstract(run.model, run.tasks[0].task.build)
    _, params = restore_params(checkpoints, best["step"], shapes)
    for index in range(len(run.tasks)):
        export(run, index, params)
    chosen = {"seed": best["seed"], "step": best["step"]}
    if len(run.tasks) == 1:
        results = next(iter(by_task.values()))
    else:
        results = {"task": "several", "tasks": by_task}
    results |= {"split": run.reported, "best": chosen}
    write_json(run.directory / RESULTS, results)
    finetune_report.write(run, by_task, best)
    for prepared in run.tasks:
        say(by_task[prepared.task.name], run)


def summary(
    run: Finetuning,
    prepared: Prepared,
    baseline: Mapping[str, float],
    seeds: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The figures of a task over all seeds: means, and the standard deviation of the metric."""
    task = prepared.task
    prefix = "" if len(run.tasks) == 1 else f"{task.name}/"
    of_seeds = [result["metrics"][task.name] for result in seeds]
    values = [scores[task.metric] for scores in of_seeds]
    untrained = [result["untrained"][prefix + task.metric] for result in seeds]
    return {
        "task": task.name,
        "metric": task.metric,
        "value": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "baseline": float(baseline[task.metric]),
        "untrained": float(np.mean(untrained)),
        "metrics": {name: float(np.mean([s[name] for s in of_seeds])) for name in of_seeds[0]},
        "seeds": [
            {"seed": result["seed"], "step": result["step"], "value": value}
            for result, value in zip(seeds, values, strict=True)
        ],
        "labels": task.labels,
    }


def export(run: Finetuning, index: int, params: Params) -> None:
    """Write `hf/` for a task (`hf-<task>/` for one of several) and compare its logits."""
    prepared = run.tasks[index]
    folder = named(run, prepared, HUGGING_FACE)
    exported = prepared.task.exported((params.get("heads") or {}).get(prepared.task.name))
    if exported is None:
        console.say(f"{prepared.task.name}: not exported: transformers has no class for it.")
        return
    kind, head = exported
    try:
        task_heads.export(
            params["encoder"],
            head,
            run.model,
            kind,
            run.directory / TOKENIZER,
            folder,
            max_length=prepared.task.settings.max_length,
        )
    except UserError as error:
        console.say(f"{prepared.task.name}: not exported: {error}")
        return
    architecture = kind.architecture(run.model)
    try:
        difference = compare(run, index, params, folder, architecture)
    except parity.NotComparedError as error:
        console.say(f"Exported {folder} ({architecture}); its logits were not compared: {error}.")
    else:
        note = "" if difference is None else f", within {difference:.0e} of ours"
        console.say(f"Exported {folder} ({architecture}){note}.")


def compare(
    run: Finetuning, index: int, params: Params, folder: Path, architecture: str
) -> float | None:
    """The largest difference of logits on some rows; None where the outputs are no logits."""
    prepared = run.tasks[index]
    batches = prepared.batches(run.reported, run.settings.batch_size, 0, run.settings.shapes)
    _, batch = next(batches.in_order())
    forward = compile_forward(prepared.task, in_float32(run.model), run.mesh)
    with jax.default_matmul_precision("highest"):
        outputs = jax.device_get(forward(params, place(run.mesh, batch)))
    if "logits" not in outputs:
        return None
    count = min(COMPARED, int(batch["weight"].sum()))
    rows = {name: array[:count] for name, array in batch.items()}
    logits = prepared.task.exported_logits(outputs["logits"][:count])
    return task_heads.verify(folder, architecture, rows, logits)


def named(run: Finetuning, prepared: Prepared, file: str) -> Path:
    """Where a file of a task is: of one of several tasks with the task's name."""
    if len(run.tasks) == 1:
        return run.directory / file
    stem, dot, suffix = file.partition(".")
    return run.directory / f"{stem}-{prepared.task.name}{dot}{suffix}"


def copy(source: Path, target: Path) -> None:
    """Copy a file, all or nothing."""
    with finished_file(target) as unfinished:
        shutil.copyfile(source, unfinished)


def say(figures: Mapping[str, Any], run: Finetuning) -> None:
    """Print a task's figures; the last line is `RESULT task metric value ± std baseline`."""
    metric, value = figures["metric"], figures["value"]
    count = len(figures["seeds"])
    seeds = "1 seed" if count == 1 else f"mean of {count} seeds"
    console.say(f"\n{figures['task']} on {run.reported}, {seeds}:")
    for name, number in figures["metrics"].items():
        console.say(f"  {name:16} {number:.4f}")
    console.say(
        f"  gain of {metric}: {value - figures['baseline']:+.4f} over the majority class, "
        f"{value - figures['untrained']:+.4f} over the untrained head\n"
        f"Report: {run.directory / 'report.html'}\n"
        f"Next: python -m bert_jax.predict --workdir={run.directory} --input=FILE --out=FILE"
    )
    console.say(
        f"RESULT {figures['task']} {metric} {value:.4f} ± {figures['std']:.4f} "
        f"{figures['baseline']:.4f}"
    )
