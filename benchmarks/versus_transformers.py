"""Speed of the training step, beside `transformers` on the same machine, shape and minute.

    python benchmarks/versus_transformers.py [--sides=NAME,NAME] [--rounds=8] [--json=FILE]

BERT-small: 4 layers x 512, 8 heads, 30,592 pieces; 16 rows of 128 tokens with 19 predictions each;
masked words and next sentences, dropout 0.1, clipping at 1.0, AdamW. Every side is a process of its
own that computes only when told to, so that blocks of steps take turns on an otherwise idle
machine: what disturbs one side disturbs its peer in the same minute, and ratios are taken round by
round. Batches are random, and ready before the clock starts; needs `torch` and `transformers`.
"""

import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("sides", None, "Which to run; default: all but the slow to compile")
flags.DEFINE_integer("rounds", 8, "How often each side gets its turn")
flags.DEFINE_integer("steps", 4, "Steps a turn; the first of them warms the caches, uncounted")
flags.DEFINE_string("json", None, "File for the figures")
flags.DEFINE_string("serve", None, "(internal) Be this side: read numbers of steps, write seconds")

LAYERS, WIDTH, HEADS, VOCAB = 4, 512, 8, 30_592
ROWS, LENGTH, PREDICTIONS = 16, 128, 19
LEARNING_RATE = 1e-4
BATCHES = 4
PEER = "transformers eager float32"
PACKAGES = ("jax", "flax", "optax", "torch", "transformers", "numpy")

Step = Callable[[], float]  # makes one update and returns the loss once it is there


def bert_jax(dtype: str, keep_freed_memory: bool = True) -> Step:
    """Our compiled step, as `bert_jax.train` runs it on a CPU."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # the peer computes there too
    from bert_jax import cli, partition
    from bert_jax.config import load_config
    from bert_jax.model import ModelConfig
    from bert_jax.training import compile_steps

    if keep_freed_memory:
        cli.keep_freed_memory()
    config = load_config(str(Path(__file__).parents[1] / "configs" / "bert.py"), "small")
    config.learning_rate = LEARNING_RATE
    config.model.compute_dtype = dtype
    mesh = partition.make_mesh(config.mesh)
    steps = compile_steps(config, ModelConfig.create(config.model, VOCAB), mesh)
    batches = itertools.cycle(
        [partition.place_batch(mesh, random_batch(seed), ROWS) for seed in range(BATCHES)]
    )
    state = steps.init()

    def step() -> float:
        nonlocal state
        state, sums = steps.train(state, next(batches))
        return float(sums["mlm_loss"] / sums["mlm_count"])

    return step


def transformers(dtype: str, compiled: bool) -> Step:
    """`BertForPreTraining` under the usual loop: labels of -100 where nothing is predicted."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
    )
    model = BertForPreTraining(config).train()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    batches = itertools.cycle([labelled(random_batch(seed)) for seed in range(BATCHES)])

    def step() -> float:
        batch = {name: torch.from_numpy(array) for name, array in next(batches).items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = forward(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


SIDES: dict[str, Callable[[], Step]] = {
    PEER: lambda: transformers("float32", compiled=False),
    "bert_jax float32": lambda: bert_jax("float32"),
    "bert_jax bfloat16": lambda: bert_jax("bfloat16"),
    "bert_jax float32 without keep_freed_memory": lambda: bert_jax(
        "float32", keep_freed_memory=False
    ),
    "transformers eager bfloat16": lambda: transformers("bfloat16", compiled=False),
    "transformers torch.compile bfloat16": lambda: transformers("bfloat16", compiled=True),
}
DEFAULT_SIDES = list(SIDES)[:4]


def random_batch(seed: int) -> dict[str, np.ndarray]:
    """A batch of sentence pairs (contract C5) that fill their rows."""
    random = np.random.default_rng(seed)
    places = [np.sort(random.choice(LENGTH, PREDICTIONS, replace=False)) for _ in range(ROWS)]
    whole = (ROWS, LENGTH)
    batch = {
        "input_ids": random.integers(5, VOCAB, whole),
        "token_type_ids": np.broadcast_to(np.arange(LENGTH) >= LENGTH // 2, whole),
        "position_ids": np.broadcast_to(np.arange(LENGTH), whole),
        "segment_ids": np.ones(whole),
        "masked_positions": np.stack(places),
        "masked_labels": random.integers(5, VOCAB, (ROWS, PREDICTIONS)),
        "next_sentence_label": random.integers(0, 2, ROWS),
    }
    batch = {name: array.astype(np.int32) for name, array in batch.items()}
    return batch | {"masked_weights": np.ones((ROWS, PREDICTIONS), np.float32)}


def labelled(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same batch as Hugging Face's collator would give it."""
    labels = np.full((ROWS, LENGTH), -100)
    np.put_along_axis(labels, batch["masked_positions"], batch["masked_labels"], axis=1)
    return {
        "input_ids": batch["input_ids"].astype(np.int64),
        "token_type_ids": batch["token_type_ids"].astype(np.int64),
        "attention_mask": (batch["segment_ids"] > 0).astype(np.int64),
        "labels": labels,
        "next_sentence_label": batch["next_sentence_label"].astype(np.int64),
    }


def serve(name: str) -> None:
    """Be one side: for each number read, make as many steps and write what they took."""
    step = SIDES[name]()
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            losses.append(step())
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "losses": losses, "peak_bytes": peak}), flush=True)


class Side:
    """A side's process, and what it has measured."""

    def __init__(self, name: str):
        """Start it, and let it make its first steps (it compiles)."""
        self.name = name
        self.rounds: list[list[float]] = []
        self.process = subprocess.Popen(
            [sys.executable, __file__, f"--serve={name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first_step = self.ask(3)["seconds"][0]

    def ask(self, steps: int) -> dict:
        """Let it make `steps` steps."""
        assert self.process.stdin
        assert self.process.stdout
        print(steps, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def turn(self, steps: int) -> None:
        """One counted block of steps."""
        answer = self.ask(steps)
        self.rounds.append(answer["seconds"][1:])
        self.peak_bytes = answer["peak_bytes"]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def summary(self, peer: "Side") -> dict:
        """Its figures, and the ratios to the peer of the same round."""
        steps = [seconds for block in self.rounds for seconds in block]
        ratios = [
            statistics.median(theirs) / statistics.median(own)
            for own, theirs in zip(self.rounds, peer.rounds, strict=True)
        ]
        return {
            "side": self.name,
            "step_seconds": {"min": min(steps), "median": statistics.median(steps)},
            "tokens_per_second": ROWS * LENGTH / statistics.median(steps),
            "times_peer": {
                "min": min(ratios),
                "median": statistics.median(ratios),
                "max": max(ratios),
            },
            "first_step_seconds": self.first_step,
            "peak_bytes": self.peak_bytes,
            "rounds": self.rounds,
        }


def compare(names: list[str]) -> list[dict]:
    """Let the sides take turns; the first is the one that the others are compared with."""
    sides: list[Side] = []
    try:
        for name in names:
            sides.append(Side(name))
        for _ in range(FLAGS.rounds):
            for side in sides:
                side.turn(FLAGS.steps)
    finally:
        for side in sides:
            side.close()
    return [side.summary(peer=sides[0]) for side in sides]


def machine() -> str:
    """The processor and how many of its cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()}, {len(os.sched_getaffinity(0))} cores"


def table(results: list[dict]) -> str:
    """The figures as a person reads them."""
    rows = [
        f"{'':38}{'step, ms':>16}{'tokens/s':>10}{'times the peer':>20}{'peak GB':>9}",
        f"{'':38}{'min':>8}{'median':>8}{'':10}{'min  median  max':>20}",
    ]
    for result in results:
        step, times = result["step_seconds"], result["times_peer"]
        rows.append(
            f"{result['side']:38}{1e3 * step['min']:8.0f}{1e3 * step['median']:8.0f}"
            f"{result['tokens_per_second']:10,.0f}"
            f"{times['min']:8.2f}{times['median']:6.2f}{times['max']:6.2f}"
            f"{result['peak_bytes'] / 1e9:9.1f}"
        )
    return "\n".join(rows)


def main(_: list[str]) -> None:
    """Run the benchmark, or be one of its sides."""
    if FLAGS.serve:
        return serve(FLAGS.serve)
    names = [PEER, *(name for name in FLAGS.sides or DEFAULT_SIDES if name != PEER)]
    if unknown := set(names) - set(SIDES):
        raise app.UsageError(f"--sides: {sorted(unknown)}; there are {list(SIDES)}")
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    print(f"{machine()}; " + ", ".join(f"{name} {found}" for name, found in versions.items()))
    results = compare(names)
    print(table(results))
    if FLAGS.json:
        values = {"machine": machine(), "versions": versions, "results": results}
        Path(FLAGS.json).write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
