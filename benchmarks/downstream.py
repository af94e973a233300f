"""Fine-tune encoders on seven tasks, beside the majority class and PyTorch.

    python -m benchmarks.downstream --data=TASKS --out=runs/downstream --examples=1500 --seeds=2 \\
      --init=ours=runs/mine --init=random=random:runs/mine --pytorch=ours
    python -m benchmarks.downstream --out=runs/downstream --table

An encoder is a name and what `config.init` takes: a workdir, a folder of transformers, `random:`
and one of these or a config file. TASKS holds sst2/ cola/ rte/ stsb/ (GLUE's tsv files), wnut17/
(CoNLL), ud_english_ewt/ (CoNLL-U) and xquad/xquad.en.json, which is split by article here. The
training examples are chosen by a hash, the same for all encoders and seeds; the validation split is
whole, and is scored before and after training alone, so that no checkpoint is chosen by it.

`--pytorch` names encoders that PyTorch fine-tunes as well, from the exported folder, with the same
examples and rates (downstream_pytorch.py).

OUT/results.jsonl gets a line for each (task, encoder, library, seed). What it has is not run again:
the same command continues, more tasks, encoders and seeds can be added by others.
"""

import argparse
import contextlib
import dataclasses
import json
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from bert_jax.common import compile_cache, memory, platforms
from bert_jax.config import changed
from bert_jax.config.finetuning import default_config
from bert_jax.finetune import finetune
from bert_jax.run import finetuned

OURS, PYTORCH = "bert_jax", "pytorch"
RESULTS = "results.jsonl"
RECORDED = ("examples", "epochs", "batch_size", "learning_rate", "max_length")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A task: its files, and how it is learned."""

    title: str
    kind: str  # config.task
    suffix: str  # of its files
    max_length: int  # at most; --max_length may be lower
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the config


PAIR = {"data.text": "sentence1", "data.text_pair": "sentence2"}
TASKS = {
    "sst2": Benchmark("SST-2", "classification", "tsv", 64, {"data.text": "sentence"}),
    "cola": Benchmark(
        "CoLA",
        "classification",
        "tsv",
        48,
        {"data.text": "3", "data.label": "1", "metric": "matthews"},
    ),
    "rte": Benchmark("RTE", "classification", "tsv", 128, PAIR),
    "stsb": Benchmark("STS-B", "regression", "tsv", 96, {**PAIR, "data.label": "score"}),
    "wnut17": Benchmark("WNUT-17", "tagging", "conll", 128),
    "ud_english_ewt": Benchmark("UD English EWT", "tagging", "conllu", 128),
    "xquad": Benchmark("XQuAD by article", "question_answering", "json", 256, {"stride": 64}),
}
XQUAD_HELD_OUT = 6  # every sixth article is for validation


def main() -> None:
    arguments = parsed()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        platforms.hide_missing_tpu()
        memory.keep_freed_memory()
        compile_cache.use(str(arguments.out / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        encoders = dict(each.split("=", 1) for each in arguments.init)
        for task in arguments.tasks:
            for encoder, init in encoders.items():
                run(task, encoder, init, arguments)
                if encoder in arguments.pytorch and task in arguments.pytorch_tasks:
                    run_pytorch(task, encoder, init, arguments)
    print(table(read(arguments.out)))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--init", action="append", default=[], metavar="NAME=ENCODER")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--examples", type=int, default=1500, help="of training; 0: all")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--learning_rate", type=float, default=5e-4)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--max_length", type=int, default=256, help="at most; tasks have their own")
    parser.add_argument("--pytorch", default="", help="names of encoders, with commas")
    parser.add_argument("--pytorch_tasks", default="sst2,ud_english_ewt")
    parser.add_argument("--table", action="store_true", help="print the table, run nothing")
    arguments = parser.parse_args()
    if not arguments.table and not (arguments.data and arguments.init):
        parser.error("--data and --init are needed, or --table")
    if wrong := [each for each in arguments.init if "=" not in each]:
        parser.error(f"--init={wrong[0]}: write NAME=ENCODER")
    for flag in ("tasks", "pytorch", "pytorch_tasks"):
        setattr(arguments, flag, list(filter(None, getattr(arguments, flag).split(","))))
    if wrong := {*arguments.tasks, *arguments.pytorch_tasks} - TASKS.keys():
        parser.error(f"there is no task {min(wrong)}: choose of {', '.join(TASKS)}")
    return arguments


def run(task: str, encoder: str, init: str, arguments: argparse.Namespace) -> None:
    """Fine-tune one encoder on one task with all seeds that have no record."""
    config = config_of(task, init, arguments)
    missing = missing_seeds(task, encoder, OURS, config, arguments)
    if not missing:
        return
    directory = arguments.out / f"{task}-{encoder}"
    print(f"{task}, {encoder}: {directory}.log", flush=True)
    with (
        Path(f"{directory}.log").open("a") as log,
        contextlib.redirect_stdout(log),
        Stopwatch(len(missing)) as times,
    ):
        finetune(config, directory)
    results = json.loads((directory / "results.json").read_text())
    for of_seed in results["seeds"]:
        if of_seed["seed"] in missing:
            path = directory / finetuned.SEEDS / str(of_seed["seed"]) / finetuned.RESULT
            untrained = json.loads(path.read_text())["untrained"][results["metric"]]
            figures = {"value": of_seed["value"], "untrained": untrained}
            figures["baseline"] = results["baseline"]
            record = described(task, encoder, OURS, of_seed["seed"], config, results["metric"])
            write(arguments.out, record | figures | times.figures)
    for checkpoints in directory.glob(f"{finetuned.SEEDS}/*/{finetuned.CHECKPOINTS}"):
        if checkpoints.parent.name != str(results["best"]["seed"]):  # needed if seeds are added
            shutil.rmtree(checkpoints)


def run_pytorch(task: str, encoder: str, init: str, arguments: argparse.Namespace) -> None:
    """The same in PyTorch, from the exported folder."""
    from benchmarks import downstream_pytorch

    config = config_of(task, init, arguments)
    folder = None
    for seed in missing_seeds(task, encoder, PYTORCH, config, arguments):
        folder = folder or downstream_pytorch.exported(init, arguments.out / f"hf-{encoder}")
        print(f"{task}, {encoder}, PyTorch, seed {seed}", flush=True)
        with Stopwatch() as times:
            metric, value = downstream_pytorch.finetune(config, folder, seed)
        record = described(task, encoder, PYTORCH, seed, config, metric) | {"value": value}
        write(arguments.out, record | times.figures)


def config_of(task: str, init: str, arguments: argparse.Namespace) -> ConfigDict:
    """The config of a fine-tuning."""
    benchmark = TASKS[task]
    train, validation = files(task, arguments)
    return changed(
        default_config(),
        {
            "task": benchmark.kind,
            "init": init,
            "data.train": str(train),
            "data.validation": str(validation),
            "data.limit": arguments.examples,
            "epochs": arguments.epochs,
            "seeds": arguments.seeds,
            "learning_rate": arguments.learning_rate,
            "batch_size": arguments.batch_size,
            "max_length": min(benchmark.max_length, arguments.max_length),
            "eval_every": 10**9,  # the last step is evaluated in any case
            "log_every": 10,
            "shapes": 2,
            **benchmark.fields,
        },
    )


def files(task: str, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The files of the splits; XQuAD's are made."""
    directory = arguments.data / task
    if task != "xquad":
        train, validation = (
            directory / f"{split}.{TASKS[task].suffix}" for split in ("train", "dev")
        )
        return train, validation
    articles = json.loads((directory / "xquad.en.json").read_text())["data"]
    held_out = articles[::XQUAD_HELD_OUT]
    training = [article for i, article in enumerate(articles) if i % XQUAD_HELD_OUT]
    paths = []
    for split, part in (("train", training), ("validation", held_out)):
        paths.append(arguments.out / f"xquad-{split}.json")
        paths[-1].write_text(json.dumps({"data": part}))
    return paths[0], paths[1]


class Stopwatch:
    """Seconds of a `with` block, and CPU seconds of this process in it, divided by `runs`."""

    def __init__(self, runs: int = 1):
        self._runs = runs
        self.figures: dict[str, float] = {}

    def __enter__(self) -> "Stopwatch":
        self._began = np.array([time.monotonic(), time.process_time()])
        return self

    def __exit__(self, *_: object) -> None:
        spent = np.array([time.monotonic(), time.process_time()]) - self._began
        wall, cpu = np.round(spent / self._runs, 1).tolist()
        self.figures = {"seconds": wall, "cpu_seconds": cpu}


# --- Records: a line for each (task, encoder, library, seed)


def described(
    task: str, encoder: str, library: str, seed: int, config: ConfigDict, metric: str = ""
) -> dict[str, Any]:
    """What a record is about."""
    return {
        "task": task,
        "encoder": encoder,
        "library": library,
        "seed": seed,
        "metric": metric,
        "init": config.init,
        "examples": config.data.limit,
        **{name: config[name] for name in RECORDED if name != "examples"},
    }


def read(out: Path) -> list[dict[str, Any]]:
    path = out / RESULTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write(out: Path, record: dict[str, Any]) -> None:
    with (out / RESULTS).open("a") as file:
        file.write(json.dumps(record) + "\n")


def missing_seeds(
    task: str, encoder: str, library: str, config: ConfigDict, arguments: argparse.Namespace
) -> list[int]:
    """The seeds without a record; a record of other settings stops the benchmark."""
    found = set()
    for record in read(arguments.out):
        if (record["task"], record["encoder"], record["library"]) == (task, encoder, library):
            wanted = described(task, encoder, library, record["seed"], config, record["metric"])
            if different := [name for name in wanted if record[name] != wanted[name]]:
                raise SystemExit(
                    f"--out={arguments.out} has {task} with {encoder} and another "
                    f"{', '.join(different)}: name another --out, or the encoder otherwise"
                )
            found.add(record["seed"])
    return [seed for seed in range(arguments.seeds) if seed not in found]


# --- The table


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown: a row for each task, a column for each encoder and library, the majority class."""
    columns = list(dict.fromkeys((r["encoder"], r["library"]) for r in records))
    titles = [name if library == OURS else f"{name}, PyTorch" for name, library in columns]
    lines = [
        f"| task | metric | {' | '.join(titles)} | majority class |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for task in dict.fromkeys(r["task"] for r in records):
        of_task = [record for record in records if record["task"] == task]
        cells = [
            cell(r for r in of_task if (r["encoder"], r["library"]) == column) for column in columns
        ]
        baseline = next((f"{r['baseline']:.3f}" for r in of_task if "baseline" in r), "")
        metric = of_task[0]["metric"]
        lines.append(f"| {TASKS[task].title} | {metric} | {' | '.join(cells)} | {baseline} |")
    return "\n".join(lines)


def cell(records: Iterable[dict[str, Any]]) -> str:
    """The mean of the seeds, and their standard deviation."""
    values = [record["value"] for record in records]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f} ({len(values)})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
