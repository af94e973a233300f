"""The masked-language heads side by side: time, memory, and what they learn in equal steps.

    python benchmarks/heads.py [--vocabulary=250000] [--learn=8192] [--steps=400] [--json=FILE]

Cost: loss and gradients of the head alone, for predictions whose labels follow Zipf's law; the
heads take turns, the fastest of some rounds counts; memory is what the compiled program allocates
beside its arguments and results. Learning: a small encoder on synthetic text, rows of pairs of
which one half follows from the other, with words by Zipf's law; the same batches for all heads, and
held-out accuracy by the exact loss.
"""

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from bert_jax.common import command_line, memory
from bert_jax.config import default_config, parse
from bert_jax.model import ModelConfig
from bert_jax.model.heads import HEADS
from bert_jax.training import sharding
from bert_jax.training.step import compile_steps

FLAGS = flags.FLAGS
FIRST = 5  # ids below are special tokens
ROWS, LENGTH, PREDICTIONS = 32, 64, 10


@dataclasses.dataclass
class Cost:
    """Of one head: loss and gradients."""

    milliseconds: float
    temporary_megabytes: float
    parameters: int  # the token table included


def main() -> None:
    """Run the benchmark and print its tables."""
    memory.keep_freed_memory()
    costs = {name: dataclasses.asdict(cost) for name, cost in measure_costs().items()}
    print(f"{FLAGS.vocabulary:,} tokens, {FLAGS.predictions} predictions, width {FLAGS.width}")
    print(f"{'head':10}{'time':>10}{'memory':>10}{'parameters':>14}")
    for name, cost in costs.items():
        time_text = f"{cost['milliseconds']:.0f} ms"
        megabytes = f"{cost['temporary_megabytes']:.0f} MB"
        print(f"{name:10}{time_text:>10}{megabytes:>10}{cost['parameters']:14,}")
    learned = {name: learn(name) for name in HEADS} if FLAGS.steps else {}
    for name, (loss, accuracy) in learned.items():
        print(f"{name:10} held-out loss {loss:.3f}, accuracy {accuracy:.1%}", flush=True)
    if FLAGS.json:
        versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
        values = {"versions": versions, "flags": FLAGS.flag_values_dict(), "costs": costs}
        Path(FLAGS.json).write_text(json.dumps(values | {"learned": learned}, default=str) + "\n")


def measure_costs() -> dict[str, Cost]:
    """All heads on the same predictions."""
    random = np.random.default_rng(0)
    rows = FLAGS.predictions // 16
    hidden = random.standard_normal((rows, 16, FLAGS.width), np.float32)
    table = 0.02 * random.standard_normal((FLAGS.vocabulary, FLAGS.width), np.float32)
    labels = zipf(random, FLAGS.vocabulary, hidden.shape[:2])
    weights = np.ones(labels.shape, np.float32)
    programs: dict[str, Callable[[], Any]] = {}
    costs = {}
    for name in HEADS:
        config = dataclasses.replace(
            ModelConfig(FLAGS.vocabulary, **default_config().model.to_dict()),
            head=name,
            hidden_size=FLAGS.width,
            compute_dtype=FLAGS.dtype,
        )
        structure, params = nnx.split(HEADS[name](config, rngs=nnx.Rngs(0)), nnx.Param)

        def loss(params, table, hidden, labels, weights, structure=structure):
            head, key = nnx.merge(structure, params), jax.random.key(0)
            low = hidden.astype(FLAGS.dtype)
            return head.totals(low, table, labels, weights, key).loss / weights.size

        arguments = (params, *map(jnp.asarray, (table, hidden, labels, weights)))
        compiled = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*arguments).compile()
        programs[name] = lambda compiled=compiled, given=arguments: jax.block_until_ready(
            compiled(*given)
        )
        size = sum(leaf.size for leaf in jax.tree.leaves(params)) + table.size
        megabytes = compiled.memory_analysis().temp_size_in_bytes / 1e6
        costs[name] = Cost(np.inf, megabytes, size)
    for _ in range(FLAGS.rounds + 1):
        for name, program in programs.items():
            begin = time.perf_counter()
            program()
            spent = 1e3 * (time.perf_counter() - begin)
            costs[name].milliseconds = min(costs[name].milliseconds, spent)
    return costs


def learn(head: str) -> tuple[float, float]:
    """Held-out loss and accuracy after some steps."""
    config = default_config()
    config.total_steps, config.warmup_steps = FLAGS.steps, FLAGS.steps // 10
    config.learning_rate, config.global_batch_size = 3e-3, ROWS
    config.model.update(
        head=head,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=128,
        position="rotary",
        norm="pre",
        next_sentence=False,
        dropout=0.0,
        attention_dropout=0.0,
        sampled_negatives=FLAGS.learn // 16,
    )
    settings = parse(config)
    mesh = sharding.make_mesh(settings.training.mesh)
    steps = compile_steps(settings.training, settings.model_config(FLAGS.learn), mesh)
    state = steps.init()
    for step in range(FLAGS.steps):
        state, _ = steps.train(state, sharding.place_batch(mesh, pairs(step), ROWS))
    held_out = (pairs(10**6 + index) for index in range(20))
    loss = correct = count = 0.0
    for batch in held_out:
        placed = sharding.place_batch(mesh, batch, ROWS)
        found = jax.device_get(steps.evaluate(state.params, placed)["mlm"])
        loss, correct = loss + found.loss, correct + found.metrics["accuracy"]
        count += found.weight
    return float(loss / count), float(correct / count)


def pairs(seed: int) -> dict[str, np.ndarray]:
    """A batch of rows of pairs (word, what always follows it), some of their tokens masked."""
    random = np.random.default_rng(seed)
    words = zipf(random, FLAGS.learn, (ROWS, LENGTH // 2))
    follows = FIRST + (words - FIRST ^ 1)  # the neighbour in frequency
    tokens = np.stack([words, np.minimum(follows, FLAGS.learn - 1)], 2).reshape(ROWS, LENGTH)
    order = random.permuted(np.tile(np.arange(LENGTH), (ROWS, 1)), axis=1)
    positions = np.sort(order[:, :PREDICTIONS])
    labels = np.take_along_axis(tokens, positions, axis=1)
    masked = tokens.copy()
    np.put_along_axis(masked, positions, 4, axis=1)
    whole = np.ones_like(tokens)
    batch = {
        "input_ids": masked,
        "token_type_ids": 0 * whole,
        "position_ids": np.arange(LENGTH) * whole,
        "segment_ids": whole,
        "masked_positions": positions,
        "masked_labels": labels,
    }
    ids = {name: array.astype(np.int32) for name, array in batch.items()}
    return ids | {"masked_weights": np.ones(labels.shape, np.float32)}


def zipf(random: np.random.Generator, vocabulary: int, shape: tuple[int, ...]) -> np.ndarray:
    """Ids whose frequency falls with their rank."""
    words = vocabulary - FIRST
    return (FIRST + np.floor(words ** random.random(shape)) - 1).astype(np.int32)


if __name__ == "__main__":
    flags.DEFINE_integer("vocabulary", 250_000, "Pieces, for the cost")
    flags.DEFINE_integer("predictions", 1024, "Predictions of a step, a multiple of 16")
    flags.DEFINE_integer("width", 256, "Of the model")
    flags.DEFINE_string("dtype", "float32", "Of the matrix products: float32 or bfloat16")
    flags.DEFINE_integer("rounds", 5, "How often each head gets its turn")
    flags.DEFINE_integer("learn", 8192, "Pieces, for what is learned")
    flags.DEFINE_integer("steps", 400, "Steps of learning; 0: none")
    flags.DEFINE_string("json", None, "File for the figures")
    command_line.run(main)
