"""Paired ablations at equal steps: which change of a recipe learns more.

    python -m benchmarks.ablate --recipe=configs/quickstart.py --store=DIR --steps=200 --seeds=3 \\
      --out=ablations.jsonl --arm='muon 0.03: optimizer.muon_learning_rate=0.03' ...

Arms are the config itself (`base`) and one for each `--arm='name: field=value, field=value'`. Every
arm is trained with every seed; a seed decides the initial parameters, the order of the corpus and
the masks, so that arms are compared in pairs. Runs that `--out` has are not made again, and the
order is seed by seed: more seeds or arms can be added by the same command, and `--runs=1` makes one
run and ends. The rule of the record: a change counts beyond two standard errors of its paired
differences, with three seeds or more.
"""

import ast
import dataclasses
import hashlib
import itertools
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from absl import flags

from benchmarks.learning import Point, learn
from bert_jax.common import command_line, memory
from bert_jax.config import changed, named
from bert_jax.corpus.store import TokenStore
from bert_jax.performance.machine import load as machine_load
from bert_jax.performance.machine import machine

FLAGS = flags.FLAGS
BASE = "base"
FIGURES = ("mlm_accuracy", "mask_only_accuracy", "mlm_loss")
PLATEAU = 6.6  # nats of the train loss, below the unigram entropy of the held-out text (8k pieces)


def parse_fields(text: str) -> dict:
    """`field=value, field=value`; values as Python writes them, else text."""
    fields = {}
    for part in filter(None, map(str.strip, text.split(", "))):
        field, _, value = part.partition("=")
        try:
            fields[field] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            fields[field] = value
    return fields


def parse_arm(text: str) -> tuple[str, dict]:
    """`name: field=value, field=value`."""
    name, _, fields = text.partition(":")
    return name.strip(), parse_fields(fields)


def left_plateau(curve: Iterable[Point]) -> int | None:
    """The first logged step whose train loss is below PLATEAU."""
    return next((point.step for point in curve if point.train_loss < PLATEAU), None)


def main() -> None:
    base = named(FLAGS.recipe, **parse_fields(FLAGS.set))
    base.total_steps, base.log_every, base.eval_every = FLAGS.steps, 10, float(FLAGS.steps)
    left = FLAGS.runs
    store = TokenStore.open(Path(FLAGS.store))
    arms = dict([(BASE, {}), *map(parse_arm, FLAGS.arm)])
    out = Path(FLAGS.out)
    for seed, (name, fields) in itertools.product(range(FLAGS.seeds), arms.items()):
        config = changed(base, fields | {"seed": seed})
        key = hashlib.sha256(config.to_json_best_effort().encode()).hexdigest()[:16]
        if any(record["key"] == key for record in read(out)):
            continue
        if left == 0:
            break
        left -= 1
        curve = list(learn(config, store))
        last = curve[-1]
        record = {
            "arm": name,
            "key": key,
            "fields": fields,
            "seed": seed,
            "left_plateau": left_plateau(curve),
            **dataclasses.asdict(last),
            "train_losses": [round(point.train_loss, 3) for point in curve],
            "machine": machine(),
            "load": machine_load(),
        }
        with out.open("a") as file:
            print(json.dumps(record), file=file)
        accuracy = last.held_out["mlm_accuracy"]
        print(f"{name}, seed {seed}: {accuracy:.4f} in {last.cpu_seconds:.0f} CPU s", flush=True)
    print(table(read(out), list(arms)))


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(records: list[dict], arms: list[str]) -> str:
    """Means, and the paired differences to the base with their standard errors."""
    by_arm = {
        arm: {record["seed"]: record for record in records if record["arm"] == arm} for arm in arms
    }
    lines = [
        f"| arm | seeds | {' | '.join(FIGURES)} | difference in accuracy | counts | left the "
        "plateau at step | CPU s a step |",
        f"|---|{'---|' * (len(FIGURES) + 5)}",
    ]
    for arm, runs in by_arm.items():
        if not runs:
            continue
        means = [
            f"{statistics.fmean(run['held_out'][name] for run in runs.values()):.4f}"
            for name in FIGURES
        ]
        pairs = [
            run["held_out"]["mlm_accuracy"] - by_arm[BASE][seed]["held_out"]["mlm_accuracy"]
            for seed, run in runs.items()
            if seed in by_arm[BASE]
        ]
        difference, counts = "", ""
        if arm != BASE and pairs:
            mean = statistics.fmean(pairs)
            difference = f"{mean:+.4f}"
            if len(pairs) > 1:
                error = statistics.stdev(pairs) / len(pairs) ** 0.5
                difference += f" ± {error:.4f}"
                if len(pairs) > 2:
                    counts = "yes" if abs(mean) > 2 * error else "no"
        left = [run["left_plateau"] or run["step"] for run in runs.values()]
        cost = statistics.fmean(run["cpu_seconds"] / run["step"] for run in runs.values())
        lines.append(
            f"| {arm} | {len(runs)} | {' | '.join(means)} | {difference} | {counts} | "
            f"{statistics.fmean(left):.0f} | {cost:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    memory.keep_freed_memory()
    flags.DEFINE_string("recipe", "configs/quickstart.py", "The recipe")
    flags.DEFINE_string("set", "", "Fields for all arms: `field=value, field=value`")
    flags.DEFINE_string("store", None, "A token store (python -m bert_jax.prepare)", required=True)
    flags.DEFINE_integer("steps", 200, "Updates of each run")
    flags.DEFINE_integer("seeds", 3, "Runs of each arm")
    flags.DEFINE_integer("runs", -1, "Make at most so many runs; -1: all")
    flags.DEFINE_string("out", "ablations.jsonl", "File that the runs are added to")
    flags.DEFINE_multi_string("arm", [], "name: field=value, field=value")
    command_line.run(main)
