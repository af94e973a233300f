"""Fine-tune one encoder on several tasks, beside the same encoder with random weights.

    python benchmarks/downstream.py --init=runs/mine --data=TASKS --out=runs/downstream

TASKS holds sst2/ cola/ rte/ stsb/ (GLUE's tsv files), wnut17/ (CoNLL), ud_english_ewt/ (CoNLL-U)
and xquad/xquad.en.json, which is split by article here. A task that is finished is not run again.
Prints a table: metric, pretrained ± standard deviation, random, majority class, CPU seconds.
"""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

PAIR = {"data.text": "sentence1", "data.text_pair": "sentence2"}
# Task -> config, files (train, validation), fields.
TASKS = {
    "sst2": ("classification", "tsv", {"data.text": "sentence", "max_length": 64}),
    "ud_english_ewt": ("tagging", "conllu", {"max_length": 96}),
    "stsb": ("regression", "tsv", {**PAIR, "data.label": "score", "max_length": 96}),
    "cola": (
        "classification",
        "tsv",
        {"data.text": "3", "data.label": "1", "metric": "matthews", "max_length": 48},
    ),
    "wnut17": ("tagging", "conll", {"max_length": 96}),
    "rte": ("classification", "tsv", {**PAIR, "max_length": 128}),
    "xquad": ("question_answering", "json", {"max_length": 256, "stride": 64}),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--init", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, default=2000, help="training examples; 0: all")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print("task | metric | pretrained | random | majority | CPU s", flush=True)
    for name in arguments.tasks.split(","):
        rows, seconds = [], 0.0
        for kind, init in (("pretrained", arguments.init), ("random", f"random:{arguments.init}")):
            directory = arguments.out / f"{name}-{kind}"
            seconds += finetune(name, init, directory, arguments)
            rows.append(json.loads((directory / "results.json").read_text()))
        pretrained, random = rows
        print(
            f"{name} | {pretrained['metric']} | {pretrained['value']:.4f} ± {pretrained['std']:.4f}"
            f" | {random['value']:.4f} ± {random['std']:.4f} | {pretrained['baseline']:.4f} | "
            f"{seconds:.0f}",
            flush=True,
        )


def finetune(name: str, init: str, directory: Path, arguments: argparse.Namespace) -> float:
    """Run one fine-tuning and return its CPU seconds; 0 if it was finished before."""
    if (directory / "results.json").is_file():
        return 0.0
    kind, suffix, fields = TASKS[name]
    train, validation = files(name, suffix, arguments)
    values = {
        "init": init,
        "data.train": train,
        "data.validation": validation,
        "data.limit": arguments.limit,
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
        "learning_rate": 5e-4,
        "batch_size": 32,
        "shapes": 2,
        **fields,
    }
    command = [
        *(sys.executable, "-m", "bert_jax.finetune", f"--config=configs/finetune/{kind}.py"),
        *(f"--config.{field}={value}" for field, value in values.items()),
        f"--workdir={directory}",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (arguments.out / f"{directory.name}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def files(name: str, suffix: str, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The files of the splits; XQuAD's are made: every sixth article is for validation."""
    if name != "xquad":
        return tuple(arguments.data / name / f"{split}.{suffix}" for split in ("train", "dev"))
    articles = json.loads((arguments.data / "xquad" / "xquad.en.json").read_text())["data"]
    paths = []
    for split in ("train", "validation"):
        part = [a for i, a in enumerate(articles) if (i % 6 == 0) == (split == "validation")]
        paths.append(arguments.out / f"xquad-{split}.json")
        paths[-1].write_text(json.dumps({"data": part}))
    return paths[0], paths[1]


if __name__ == "__main__":
    main()
