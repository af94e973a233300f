"""Which size for a budget: a small grid at equal time on your own store, and a scaling law.

    python -m benchmarks.sizing --store=DIR --minutes=2 --widths=64,128,256 --depths=2,4 \\
      --proposal=30m --out=runs/sizing

Trains every size of the grid (width x depth x rows a batch x store: stores differ in vocabulary)
for --minutes and for a quarter of it, each with a whole schedule, and fits

    loss = E + A / parameters^a + B / tokens^b        (https://arxiv.org/abs/2203.15556)

by least squares on the logarithms, without the embeddings in the parameters. With the seconds that
a token takes by size, the law gives the loss of each size in any time: the script proposes the best
one for --proposal. Losses of different vocabularies are compared in nats a character. The machine
must be idle, or --clock=cpu. What is finished is not made again.
"""

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import numpy as np
from absl import flags
from matplotlib import pyplot as plt
from ml_collections import ConfigDict
from scipy.optimize import least_squares

from benchmarks.learning import learn
from bert_jax.common import command_line, memory
from bert_jax.common.errors import UserError
from bert_jax.common.lengths import seconds as seconds_in
from bert_jax.config import changed, named, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.model import abstract

FLAGS = flags.FLAGS
TIMED = 8  # steps that a run is laid out by


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of the grid.

    Attributes:
      parameters: without embeddings and the head's bias.
      tokens: trained on, in millions.
      loss: held-out, nats a character.
      accuracy: held-out.
      seconds_a_token: of training, in microseconds.
    """

    width: int
    depth: int
    rows: int
    vocabulary: int
    seconds: float
    parameters: int
    tokens: float
    loss: float
    accuracy: float
    seconds_a_token: float


@dataclasses.dataclass(frozen=True)
class Law:
    """loss = floor + a / parameters^alpha + b / tokens^beta."""

    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters, tokens):
        """Of arrays of parameters and of tokens in millions."""
        return self.floor + self.a * parameters**-self.alpha + self.b * tokens**-self.beta


def config_of(width: int, depth: int, rows: int) -> ConfigDict:
    """The recipe at a size; heads are 64 wide, or one of them narrower."""
    return named(
        FLAGS.recipe,
        **{
            "model.hidden_size": width,
            "model.num_hidden_layers": depth,
            "model.num_attention_heads": max(1, width // 64),
            "model.intermediate_size": 2 * width,
            "global_batch_size": rows,
            "warmup_steps": 0.1,
            "eval_batches": 20,
        },
    )


def trial(width: int, depth: int, rows: int, store: TokenStore, seconds: float) -> Trial:
    """Train one size for a time."""
    config = config_of(width, depth, rows)
    short = changed(config, {"total_steps": TIMED, "eval_every": float(TIMED), "eval_batches": 1})
    *_, timed = learn(short, store)
    each = spent(timed) / (TIMED - 1)
    total = max(TIMED, int(seconds / each))
    whole = changed(config, {"total_steps": total, "eval_every": float(total), "log_every": total})
    *_, last = learn(whole, store)
    _, params = abstract(parse(whole).models(store.vocabulary.size)[0])
    layers = jax.tree.leaves(params["encoder"]["layers"])
    counts = store.manifest["splits"]["heldout"]
    characters = counts["characters"] / counts["tokens"]
    return Trial(
        width=width,
        depth=depth,
        rows=rows,
        vocabulary=store.vocabulary.size,
        seconds=seconds,
        parameters=sum(leaf.size for leaf in layers),
        tokens=last.tokens,
        loss=last.held_out["mlm_loss"] / characters,
        accuracy=last.held_out["mlm_accuracy"],
        seconds_a_token=spent(last) / last.tokens,
    )


def spent(point) -> float:
    return point.cpu_seconds if FLAGS.clock == "cpu" else point.seconds


def fit(trials: list[Trial]) -> Law:
    """The law with the least squares of the logarithms of the losses.

    Raises:
      UserError: there are fewer runs than numbers to fit.
    """
    if len(trials) < 6:
        raise UserError(f"{len(trials)} runs are too few to fit a law: widen --widths or --depths")
    parameters = np.array([t.parameters for t in trials], float)
    tokens = np.array([t.tokens for t in trials])
    losses = np.array([t.loss for t in trials])

    def law(x) -> Law:
        return Law(*np.exp(x))

    begin = np.log([losses.min() / 2, losses.max(), 0.2, losses.max(), 0.3])
    found = least_squares(
        lambda x: np.log(law(x).loss(parameters, tokens)) - np.log(losses), begin, loss="soft_l1"
    )
    return law(found.x)


def best_size(trials: list[Trial], law: Law, seconds: float) -> list[tuple[float, Trial]]:
    """The predicted loss of each size of the grid in a time, the lowest first."""
    longest = max(t.seconds for t in trials)
    return sorted(
        (
            (float(law.loss(t.parameters, seconds / t.seconds_a_token)), t)
            for t in trials
            if t.seconds == longest
        ),
        key=lambda pair: pair[0],
    )


def main() -> None:
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "trials.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    trials = [Trial(**json.loads(line)) for line in lines]
    grid = itertools.product(
        map(int, FLAGS.widths),
        map(int, FLAGS.depths),
        map(int, FLAGS.rows),
        [TokenStore.open(Path(store)) for store in FLAGS.store],
        [60 * FLAGS.minutes / 4, 60 * FLAGS.minutes],
    )
    for width, depth, rows, store, seconds in grid:
        key = (width, depth, rows, store.vocabulary.size, seconds)
        if any((t.width, t.depth, t.rows, t.vocabulary, t.seconds) == key for t in trials):
            continue
        trials.append(trial(width, depth, rows, store, seconds))
        with path.open("a") as file:
            print(json.dumps(dataclasses.asdict(trials[-1])), file=file)
        print(trials[-1], flush=True)
    law = fit(trials)
    time = seconds_in("proposal", FLAGS.proposal)
    lines = [
        f"{law}",
        "",
        f"| width | depth | rows | vocabulary | predicted loss in {FLAGS.proposal} |",
        "|---|---|---|---|---|",
        *(
            f"| {t.width} | {t.depth} | {t.rows} | {t.vocabulary} | {loss:.4f} |"
            for loss, t in best_size(trials, law, time)
        ),
    ]
    (out / "proposal.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    draw(trials, out / "sizing.svg")


def draw(trials: list[Trial], path: Path) -> None:
    """Accuracy over parameters, a line for each time and depth."""
    figure, axes = plt.subplots(figsize=(6, 4))
    for seconds, depth in sorted({(t.seconds, t.depth) for t in trials}):
        line = sorted(
            (t for t in trials if (t.seconds, t.depth) == (seconds, depth)),
            key=lambda t: t.parameters,
        )
        axes.plot(
            [t.parameters for t in line],
            [t.accuracy for t in line],
            ".-",
            label=f"{depth} layers, {seconds:.0f} s",
        )
    axes.set(xlabel="parameters without embeddings", ylabel="held-out accuracy", xscale="log")
    axes.legend()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    memory.keep_freed_memory()
    flags.DEFINE_list("store", None, "Token stores, one for each vocabulary", required=True)
    flags.DEFINE_string("recipe", "configs/quickstart.py", "The config whose size is chosen")
    flags.DEFINE_list("widths", ["64", "128", "256"], "Of the model")
    flags.DEFINE_list("depths", ["2", "4"], "Layers")
    flags.DEFINE_list("rows", ["32"], "Rows of a batch")
    flags.DEFINE_float("minutes", 2.0, "Training time of each size")
    flags.DEFINE_string("proposal", "30m", "The budget that a size is proposed for")
    flags.DEFINE_enum("clock", "wall", ["wall", "cpu"], "Which seconds count")
    flags.DEFINE_string("out", "runs/sizing", "Directory for trials, proposal and picture")
    command_line.run(main)
