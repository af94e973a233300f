"""The encoder speedrun: held-out accuracy over time, of our recipes and of `transformers`.

    python -m benchmarks.speedrun --store=DIR --minutes=30 --out=runs/speedrun

Trains, one after another and each in a process of its own, with the same corpus, tokenizer, layers,
width and held-out masks:

* `peer`: `transformers`' BertForMaskedLM, AdamW with linear warm-up and decay, in the type and
  mode (compiled or not) that is fastest here; the learning rate is the best of `--rates` after
  `--search_minutes` each, and the batch then the better of the track's and half of it, unless
  --peer_rate and --peer_rows give them
* `classic`: BERT's recipe in our code, at the peer's rate and batch, for as many steps as the peer
* `recipe`: `--recipe` with the fields of `--set`, once for each of `--recipe_minutes`: a schedule
  is laid over the whole of a run, so the shortest run that ends with an accuracy shows the time to
  it

Each arm's steps are timed first and its schedule laid over the time. Evaluation and compiling are
not counted. Writes curves.jsonl, curves.svg and table.md: the time to 20, 30 and 40 %, to the
peer's best, and the ratio. The machine must be idle; --clock=cpu lays out and compares CPU seconds
instead, for a machine that is not. What an arm has finished is not made again.

The rule of the record: a change of a recipe counts beyond two standard errors over three seeds or
more at equal steps (benchmarks/ablate.py); a ratio of times is of one run on one machine.
"""

import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib import pyplot as plt
from ml_collections import ConfigDict

from benchmarks.ablate import parse_fields
from benchmarks.learning import Point, learn
from bert_jax.common import command_line, memory
from bert_jax.config import changed, named, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.performance.machine import load as machine_load
from bert_jax.performance.machine import machine, versions
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.evaluation import MASK_ONLY, MIXED, EvaluationBatches

FLAGS = flags.FLAGS
TRACKS = {
    "cpu": {"layers": 4, "width": 256, "rows": 32},
    "gpu": {"layers": 12, "width": 768, "rows": 256},
    "tiny": {"layers": 1, "width": 64, "rows": 4},  # to see that the script runs
}
LENGTH = 128
TIMED = 12  # steps of a trial run that the schedule is laid out by
EVALUATIONS = 8  # of a run; of those that search, one
TARGETS = (0.2, 0.3, 0.4)
ARMS = ("peer", "classic", "recipe")


def config_of(arm: str, rows: int = 0) -> ConfigDict:
    """The config of an arm; the peer has that of `classic`. `rows` 0: the config's own batch."""
    size = TRACKS[FLAGS.track]
    changes = parse_fields(FLAGS.set)
    rows = rows or named(FLAGS.recipe, **changes).global_batch_size
    fields = {
        "seed": FLAGS.seed,
        "global_batch_size": rows,
        "stream.sequence_length": LENGTH,
        "stream.phases": (),
        "eval_batches": -(-FLAGS.eval_rows // rows),
        "log_every": 10,
        "model.num_hidden_layers": size["layers"],
        "model.hidden_size": size["width"],
        "model.num_attention_heads": size["width"] // 64,
    }
    if arm == "recipe":
        fields |= {"model.intermediate_size": 2 * size["width"], "warmup_steps": 0.1}
        return named(FLAGS.recipe, **changes | fields)
    fields |= {
        "stream.objective": "packed",
        "model.next_sentence": False,
        "model.token_types": 2,
        "model.intermediate_size": 4 * size["width"],
        "model.compute_dtype": FLAGS.dtype,
        "warmup_steps": 0.1,
    }
    return named("configs/bert.py:mini", **fields)


def seconds_of(point: Point) -> float:
    """The time that counts."""
    return point.cpu_seconds if FLAGS.clock == "cpu" else point.seconds


def laid_out(config: ConfigDict, store: TokenStore, seconds: float) -> ConfigDict:
    """The config with as many steps as the time allows."""
    fields = {"budget": "", "total_steps": TIMED, "eval_every": float(TIMED), "eval_batches": 1}
    *_, last = learn(changed(config, fields), store)
    each = seconds_of(last) / (TIMED - 1)
    total = max(TIMED, int(seconds / each))
    return changed(config, {"total_steps": total, "eval_every": 1 / FLAGS.arm_evaluations})


def train(arm: str, rate: float, rows: int, seconds: float, steps: int) -> Iterator[Point]:
    """The curve of an arm; 0 steps: as many as `seconds` allow; rate and rows 0: the config's."""
    store = TokenStore.open(Path(FLAGS.store))
    config = config_of(arm, rows)
    if rate:
        config.learning_rate = rate
    if arm != "peer":
        if steps:
            config = changed(
                config, {"total_steps": steps, "eval_every": 1 / FLAGS.arm_evaluations}
            )
        else:
            config = laid_out(config, store, seconds)
        return learn(config, store)
    return peer_curve(config, store, rate, seconds, steps)


def peer_curve(
    config: ConfigDict, store: TokenStore, rate: float, seconds: float, steps: int
) -> Iterator[Point]:
    """The curve of the peer on the rows and masks of the classic recipe."""
    from benchmarks.peer_training import Peer, fastest, train_peer

    config.total_steps = steps or 10**6
    settings = parse(config)
    stream = TrainBatches(store, settings.stream)
    model = settings.models(store.vocabulary.size)[0]
    rows = config.global_batch_size
    kinds = {"mlm": MIXED, "mask_only": MASK_ONLY}
    evaluations = {
        name: EvaluationBatches(
            store,
            "heldout",
            settings.objective,
            LENGTH,
            rows,
            most=config.eval_batches if name == "mlm" else (config.eval_batches + 1) // 2,
            replacements=kind,
        )
        for name, kind in kinds.items()
    }
    held_out = {
        name: [each.batch(index) for index in range(len(each))]
        for name, each in evaluations.items()
    }
    first = [stream.batch(step) for step in range(TIMED)]
    known = Path(FLAGS.out) / "fastest.json"
    if not known.exists():
        known.write_text(json.dumps(fastest(model, first)))
    dtype, is_compiled = json.loads(known.read_text())
    if not steps:
        trial = Peer(model, rate, dtype, is_compiled=is_compiled)
        *_, last = train_peer(trial, model, iter(first), {}, TIMED, TIMED)
        steps = max(TIMED, int(seconds / (seconds_of(last) / (TIMED - 1))))
    peer = Peer(model, rate, dtype, is_compiled=is_compiled)
    batches = (stream.batch(step) for step in itertools.count())
    every = -(-steps // FLAGS.arm_evaluations)
    return train_peer(peer, model, batches, held_out, steps, every)


def run(
    arm: str,
    name: str,
    rate: float,
    rows: int,
    seconds: float,
    steps: int = 0,
    evaluations: int = EVALUATIONS,
) -> list[Point]:
    """The curve of an arm in a process of its own; read, if it is there already."""
    path = Path(FLAGS.out) / f"{name}.jsonl"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=FLAGS.out) as directory:
            unfinished = Path(directory) / "curve"
            arguments = [
                f"--arm={arm}",
                f"--arm_rate={rate}",
                f"--arm_rows={rows}",
                f"--arm_seconds={seconds}",
                f"--arm_steps={steps}",
                f"--arm_evaluations={evaluations}",
                f"--arm_file={unfinished}",
            ]
            command = [sys.executable, "-m", "benchmarks.speedrun", *sys.argv[1:], *arguments]
            subprocess.run(command, check=True)
            unfinished.rename(path)
    points = [Point(**json.loads(line)) for line in path.read_text().splitlines()]
    last = points[-1]
    print(
        f"{name}: {last.held_out['mlm_accuracy']:.3f} after {last.step} steps, "
        f"{seconds_of(last):.0f} s",
        flush=True,
    )
    return points


def main() -> None:
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    if FLAGS.arm:
        curve = train(FLAGS.arm, FLAGS.arm_rate, FLAGS.arm_rows, FLAGS.arm_seconds, FLAGS.arm_steps)
        lines = [json.dumps(dataclasses.asdict(point)) for point in curve]
        Path(FLAGS.arm_file).write_text("\n".join(lines) + "\n")
        return
    seconds = 60 * FLAGS.minutes
    rate, rows = best_peer(60 * FLAGS.search_minutes or seconds / 6)
    curves = {"peer": run("peer", "peer", rate, rows, seconds)}
    if "classic" in FLAGS.arms:
        steps = curves["peer"][-1].step
        curves["classic"] = run("classic", "classic", rate, rows, seconds, steps)
    of_recipe = map(float, FLAGS.recipe_minutes or [FLAGS.minutes])
    for minutes in of_recipe if "recipe" in FLAGS.arms else ():
        name = f"recipe, {minutes:g} min"
        curves[name] = run("recipe", f"recipe-{minutes:g}", 0.0, 0, 60 * minutes)
    (out / "curves.jsonl").write_text(
        "".join(
            json.dumps({"arm": arm} | dataclasses.asdict(point)) + "\n"
            for arm, points in curves.items()
            for point in points
        )
    )
    draw(curves, out / "curves.svg")
    peer = f"learning rate {rate:g}, batches of {rows} rows"
    (out / "table.md").write_text(table(curves, peer) + "\n")
    print(table(curves, peer))


def best_peer(seconds: float) -> tuple[float, int]:
    """The peer's learning rate, and then its batch, with the lowest loss after a short run."""

    def loss(rate: float, rows: int) -> float:
        points = run("peer", f"peer-{rate:g}-{rows}", rate, rows, seconds, evaluations=1)
        return points[-1].held_out["mlm_loss"]

    whole = TRACKS[FLAGS.track]["rows"]
    first = FLAGS.peer_rows or whole
    rates = [FLAGS.peer_rate] if FLAGS.peer_rate else list(map(float, FLAGS.rates))
    rate = rates[0] if len(rates) == 1 else min(rates, key=lambda rate: loss(rate, first))
    if FLAGS.peer_rows:
        return rate, FLAGS.peer_rows
    return rate, min((whole, whole // 2), key=lambda rows: loss(rate, rows))


def time_to(points: Sequence[Point], accuracy: float) -> float | None:
    """Seconds to an accuracy, by the line between two evaluations."""
    evaluated = [point for point in points if point.held_out]
    times = [0.0, *map(seconds_of, evaluated)]
    found = [0.0, *(point.held_out["mlm_accuracy"] for point in evaluated)]
    for i in range(1, len(found)):
        if found[i] >= accuracy:
            share = (accuracy - found[i - 1]) / (found[i] - found[i - 1])
            return times[i - 1] + share * (times[i] - times[i - 1])
    return None


def table(curves: dict[str, Sequence[Point]], peer: str) -> str:
    """Final figures, the times to each target, and their ratio to the peer's."""
    best = max(p.held_out["mlm_accuracy"] for p in curves["peer"] if p.held_out)
    targets = [*TARGETS, best]
    names = [*(f"to {target:.0%}" for target in TARGETS), f"to the peer's best, {best:.3f}"]
    lines = [
        f"{machine()}, load {machine_load()}, {versions(('jax', 'torch', 'transformers'))}; "
        f"{FLAGS.clock} seconds; the peer has {peer}",
        "",
        f"| arm | steps | Mtokens | seconds | 80/10/10 | [MASK] only | {' | '.join(names)} |",
        f"|---|{'---|' * (5 + len(names))}",
    ]
    of_peer = [time_to(curves["peer"], target) for target in targets]
    for arm, points in curves.items():
        last, cells = points[-1], []
        for target, theirs in zip(targets, of_peer, strict=True):
            seconds = time_to(points, target)
            ratio = f" ({theirs / seconds:.1f} x)" if seconds and theirs else ""
            cells.append("not reached" if seconds is None else f"{seconds:.0f} s{ratio}")
        lines.append(
            f"| {arm} | {last.step} | {last.tokens:.2f} | {seconds_of(last):.0f} | "
            f"{last.held_out['mlm_accuracy']:.3f} | {last.held_out['mask_only_accuracy']:.3f} | "
            f"{' | '.join(cells)} |"
        )
    return "\n".join(lines)


def draw(curves: dict[str, Sequence[Point]], path: Path) -> None:
    """Held-out accuracy over time, tokens and FLOPs."""
    scales = {
        "seconds": seconds_of,
        "million tokens": lambda p: p.tokens,
        "TFLOP": lambda p: p.flops,
    }
    figure, all_axes = plt.subplots(1, 3, figsize=(12, 3.5), sharey=True)
    for axes, (name, scale) in zip(all_axes, scales.items(), strict=True):
        for arm, points in curves.items():
            evaluated = [point for point in points if point.held_out]
            accuracy = [point.held_out["mlm_accuracy"] for point in evaluated]
            axes.plot(np.array([scale(point) for point in evaluated]), accuracy, ".-", label=arm)
        axes.set_xlabel(name)
    all_axes[0].set_ylabel("held-out accuracy, 80/10/10")
    all_axes[0].legend()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    memory.keep_freed_memory()
    flags.DEFINE_string("store", None, "Token store (python -m bert_jax.prepare)", required=True)
    flags.DEFINE_enum(
        "track", "cpu", list(TRACKS), "Size: 4 x 256 on rows of 32, or 12 x 768 of 256"
    )
    flags.DEFINE_list("arms", ["classic", "recipe"], "Which are trained beside the peer")
    flags.DEFINE_float("minutes", 30.0, "Training time of each arm")
    flags.DEFINE_string("recipe", "configs/quickstart.py", "Our config")
    flags.DEFINE_string("set", "", "Fields of it: `field=value, field=value`")
    flags.DEFINE_list("recipe_minutes", [], "Training times of its runs; empty: --minutes")
    flags.DEFINE_list("rates", ["3e-4", "1e-3", "2e-3", "4e-3"], "Learning rates of the peer")
    flags.DEFINE_float("search_minutes", 0.0, "Training time of each rate; 0: a sixth of --minutes")
    flags.DEFINE_float("peer_rate", 0.0, "The peer's learning rate; 0: search it")
    flags.DEFINE_integer("peer_rows", 0, "The peer's batch; 0: search it")
    flags.DEFINE_string("dtype", "auto", "Compute dtype of the classic recipe in our code")
    flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "Which seconds count")
    flags.DEFINE_integer("eval_rows", 1600, "Held-out rows")
    flags.DEFINE_integer("seed", 0, "Of our arms")
    flags.DEFINE_string("out", "runs/speedrun", "Directory for curves and table")
    flags.DEFINE_enum("arm", "", ["", *ARMS], "Train this arm alone (the script calls itself)")
    flags.DEFINE_float("arm_rate", 0.0, "With --arm: the learning rate")
    flags.DEFINE_integer("arm_rows", 0, "With --arm: rows of a batch; 0: of the config")
    flags.DEFINE_float("arm_seconds", 0.0, "With --arm: the training time")
    flags.DEFINE_integer("arm_steps", 0, "With --arm: the steps, instead of the time")
    flags.DEFINE_integer("arm_evaluations", EVALUATIONS, "With --arm: evaluations")
    flags.DEFINE_string("arm_file", "", "With --arm: file for the curve")
    command_line.run(main)
