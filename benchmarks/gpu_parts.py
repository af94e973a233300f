"""The parts of benchmarks/gpu.py, each in a process of its own: `gpu_parts.py PART [flags]`.

A part prints its results as JSON objects, one a line. `ok` says whether a check has passed.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import app, flags

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
Row = dict[str, Any]

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
TRAIN_TOKENS = 65_536  # of a batch of the training run
MODERN = "--config=configs/modernbert.py:base-1024"


def ettin(layers: int, width: int, heads: int) -> list[str]:
    """A small ModernBERT shape of Ettin (https://arxiv.org/abs/2507.11412)."""
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": width * 3 // 2,
        "num_attention_heads": heads,
    }
    return [MODERN, *(f"--config.model.{name}={size}" for name, size in sizes.items())]


BERT_LARGE = ["--config=configs/bert.py:large", "--config.model.compute_dtype=bfloat16"]
BERT_BASE = ["--config=configs/bert.py:base", "--config.model.compute_dtype=bfloat16"]
# (shape, flags of bert_jax.benchmark, rows); the processes of a wave are on the GPU together.
WAVES = [
    [
        ("bert-base-128", [*BERT_BASE, "--phase=0"], 128),
        ("modernbert-base-1024", [MODERN, "--phase=0"], 16),
    ],
    [
        ("bert-large-128", [*BERT_LARGE, "--phase=0"], 64),
        ("bert-large-512", [*BERT_LARGE, "--phase=1"], 16),
    ],
    [
        ("ettin-17m", [*ettin(7, 256, 4), "--phase=0"], 16),
        ("ettin-68m", [*ettin(19, 512, 8), "--phase=0"], 16),
    ],
]
SMALL = [
    "--config.model.num_hidden_layers=2",
    "--config.model.hidden_size=32",
    "--config.model.num_attention_heads=2",
    "--config.model.intermediate_size=48",
    "--config.tokenizer.vocab_size=300",
]
TINY_WAVES = [
    [
        ("bert", ["--config=configs/bert.py:tiny", *SMALL, "--phase=0"], 2),
        ("ettin-68m", [MODERN, *SMALL, "--config.model.compute_dtype=float32", "--phase=0"], 1),
    ]
]


def tests() -> Iterator[Row]:
    """Attention backends and matrix products against float64, forward and gradients."""
    from tests.model.attention_reference import (
        GPU_CASES,
        GPU_TOLERANCE,
        differences,
        inputs,
        segments,
    )
    from tests.model.product_reference import SPECS, product_difference

    cases = [("xla", "packed", 0, True)] if FLAGS.tiny else GPU_CASES
    for (backend, rows, window, has_dropout), length in itertools.product(
        cases, (64,) if FLAGS.tiny else (64, 192, 512)
    ):
        name = f"attention {backend} {rows} {length}" + " window" * bool(window)
        arrays = inputs(length, heads=4, width=64)
        options = {"window": window, "rows": rows, "backend": backend, "has_dropout": has_dropout}
        given = segments(rows, length)
        found = lambda a=arrays, g=given, o=options: differences(a, g, dtype="bfloat16", **o)  # noqa: E731
        yield checked(name + " dropout" * has_dropout, found, GPU_TOLERANCE)
    for spec in SPECS[:1] if FLAGS.tiny else SPECS:
        # Sums are in float32 over exact operands; float32 operands are rounded to TF32 by default.
        for dtype, tolerance in (("bfloat16", 1e-5), ("float32", 5e-3)):
            found = lambda s=spec, d=dtype: {"all": product_difference(s, d)}  # noqa: E731
            yield checked(f"product {spec} {dtype}", found, tolerance)


def checked(name: str, compute: Callable[[], dict[str, float]], tolerance: float) -> Row:
    """A check as a row; one that raises has failed."""
    try:
        difference = max(compute().values())
    except Exception as error:
        traceback.print_exc()
        return {"check": name, "ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
    return {"check": name, "ok": difference <= tolerance, "difference": difference}


def export() -> Iterator[Row]:
    """Logits of a BERT and a ModernBERT in the shapes of their base sizes, random weights."""
    import jax
    import numpy as np
    import torch
    import transformers

    from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
    from bert_jax.interop import configs, names, parity
    from bert_jax.model import initialize
    from tests.architectures import CLASSIC
    from tests.architectures import MODERN as SMALL_MODERN

    sizes = {} if FLAGS.tiny else {"hidden_size": 768, "num_attention_heads": 12}
    sizes |= {} if FLAGS.tiny else {"num_hidden_layers": 12, "intermediate_size": 1152}
    for model in (CLASSIC, SMALL_MODERN):
        model = dataclasses.replace(model, **sizes)
        random = np.random.default_rng(0)
        params = jax.tree.map(  # no zero biases, no scales of one
            lambda leaf, random=random: leaf + random.normal(0, 0.1, leaf.shape).astype(np.float32),
            jax.device_get(initialize(model, jax.random.key(0))),
        )
        no_tokens = np.zeros(model.vocab_size, bool)
        vocabulary = Vocabulary(model.vocab_size, 0, 1, 2, 3, 4, no_tokens, no_tokens)
        name = configs.architecture(model)
        architecture = getattr(transformers, name)
        values = configs.to_hugging_face(model, vocabulary)
        theirs = architecture(architecture.config_class(**values)).eval()
        state = {key: torch.from_numpy(v) for key, v in names.to_torch(params, model).items()}
        theirs.load_state_dict(state, strict=False)
        theirs.tie_weights()
        for make in (parity.padded_batch, parity.packed_batch):
            found = parity.compare(theirs, params, model, make(model))
            row = {"check": f"{name} {make.__name__}", "ok": found.is_close}
            yield row | {"difference": found.difference, "largest_logit": found.largest}


def trained_digest() -> Iterator[Row]:
    """Hashes of the whole state after some steps on fixed batches, in both families."""
    import jax
    import numpy as np

    from bert_jax.common import compile_cache
    from bert_jax.config import load_config

    compile_cache.use(compile_cache.OFF)  # kernels are chosen anew in each process
    for file, length in (("bert.py", 128), ("modernbert.py", 256)):
        config = load_config(str(ROOT / "configs" / file))
        config.total_steps, config.warmup_steps = 1000, 10
        config.model.compute_dtype = "float32" if FLAGS.tiny else "bfloat16"
        layers, width, heads = (2, 32, 2) if FLAGS.tiny else (4, 512, 8)
        config.model.num_hidden_layers, config.model.hidden_size = layers, width
        config.model.num_attention_heads, config.model.intermediate_size = heads, 2 * width
        config.tokenizer.vocab_size = 300 if FLAGS.tiny else 30_592
        config.global_batch_size = 2 if FLAGS.tiny else 32
        config.stream.phases = ({"until": 1.0, "sequence_length": 64 if FLAGS.tiny else length},)
        runner, phase, source = prepared(config)
        step, batches = runner.compile(phase), source.batches(phase)
        for _ in range(3 if FLAGS.tiny else 50):
            runner.state, _ = step(runner.state, runner.place(next(batches)))
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(jax.device_get(runner.state)):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        yield {"family": file, "digest": digest.hexdigest()}


def prepared(config: Any, store: Any = None) -> Any:
    """The step of a config's first phase: (runner, phase, source of batches)."""
    from bert_jax.performance.measuring import Runner, stored, synthetic
    from bert_jax.stream.phases import phases

    source = stored(config, store) if store else synthetic(config)
    return Runner(config, source), phases(config)[0], source


def equal_bytes() -> Iterator[Row]:
    """Whether two processes reach the same state, without and with deterministic operations."""
    command = [sys.executable, __file__, "digest", *(["--tiny"] if FLAGS.tiny else [])]
    xla = os.environ.get("XLA_FLAGS", "")
    settings = {"as it is": xla, DETERMINISTIC: f"{xla} {DETERMINISTIC}"}
    runs = {
        name: [
            subprocess.Popen(
                command, env=os.environ | {"XLA_FLAGS": text}, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for name, text in settings.items()
    }
    for name, pair in runs.items():
        texts = [run.communicate()[0] for run in pair]
        if any(run.returncode for run in pair):
            yield {"flags": name, "ok": False, "error": "a run failed"}
            continue
        first, second = ([json.loads(line) for line in text.splitlines()] for text in texts)
        for one, other in zip(first, second, strict=True):
            row = {"flags": name, "family": one["family"], "equal": one == other}
            # Only with the flag are equal bytes promised.
            yield row | ({"ok": one == other} if name == DETERMINISTIC else {})


def steps() -> Iterator[Row]:
    """Our step and that of `transformers`, in turns."""
    peer = "eager_float32" if FLAGS.tiny else "compiled_bfloat16"
    for wave in TINY_WAVES if FLAGS.tiny else WAVES:
        yield from one_wave(wave, ("bert_jax", peer))


def one_wave(wave: Sequence[tuple[str, list[str], int]], names: Sequence[str]) -> Iterator[Row]:
    """The sides of some shapes: all compile at once, then each computes in its turn."""
    from bert_jax.performance.turns import Side

    command = [sys.executable, "-m", "bert_jax.benchmark"]
    sides = {
        (shape, name): Side(
            name, [*command, *given, f"--config.global_batch_size={rows}", f"--side={name}"]
        )
        for shape, given, rows in wave
        for name in names
    }
    failed: dict[tuple[str, str], str] = {}

    def attempt(key: tuple[str, str], action: Callable[[], None]) -> None:
        if key not in failed:
            try:
                action()
            except Exception as error:
                failed[key] = str(error)

    with ThreadPoolExecutor(len(sides)) as pool:
        for key, side in sides.items():
            pool.submit(attempt, key, side.warm_up)
    for _ in range(1 if FLAGS.tiny else 4):
        for key, side in sides.items():
            attempt(key, lambda side=side: side.turn(1 if FLAGS.tiny else 8))
    for (shape, name), side in sides.items():
        if (shape, name) in failed:
            yield {"shape": shape, "side": name, "ok": False, "error": failed[shape, name]}
        else:
            yield figures(shape, side, sides[shape, names[0]])
        side.close()


def figures(shape: str, side: Any, ours: Any) -> Row:
    """A side's row; `times_ours` is its step divided by ours, the median of the rounds."""
    from bert_jax.performance import flops

    seconds = [each for block in side.rounds for each in block]
    median, facts = statistics.median(seconds), side.facts
    peak = flops.peak(facts["device"], "bfloat16")
    memory = facts["device_peak_bytes"]
    ratios = [
        statistics.median(its) / statistics.median(own)
        for its, own in zip(side.rounds, ours.rounds, strict=False)
    ]
    return {
        "shape": shape,
        "side": side.name,
        "step_ms": 1e3 * median,
        "best_ms": 1e3 * min(seconds),
        "tokens_per_second": facts["tokens"] / median,
        "mfu": facts["flops"] / median / peak if peak else None,
        "memory_gib": memory / 2**30 if memory else None,
        "times_ours": statistics.median(ratios) if ratios else None,
        "first_step_s": side.first_step,
        "device": facts["device"],
    }


def train() -> Iterator[Row]:
    """A ModernBERT of 68 million parameters on the store until the time is over."""
    import jax

    from bert_jax.config import load_config
    from bert_jax.corpus.store import TokenStore
    from bert_jax.performance.measuring import mean_tokens, mlm_loss

    end = time.monotonic() + FLAGS.seconds
    store = TokenStore.open(FLAGS.store)
    config = load_config(str(ROOT / "configs/modernbert.py"), "base-1024")
    for flag in ettin(19, 512, 8)[1:] if not FLAGS.tiny else SMALL[:4]:
        name, value = flag.removeprefix("--config.model.").split("=")
        config.model[name] = int(value)
    config.tokenizer.vocab_size = store.vocabulary.size
    length = 64 if FLAGS.tiny else 1024
    tokens = 4 * length if FLAGS.tiny else TRAIN_TOKENS
    # The schedule ends about when the time does: start and compilation take the first minute.
    expected = (FLAGS.seconds - 60) * FLAGS.tokens_per_second / tokens
    config.total_steps = 5 if FLAGS.tiny else max(100, int(0.9 * expected))
    config.warmup_steps = config.total_steps // 20
    config.global_batch_size = tokens // length
    config.stream.phases = ({"until": 1.0, "sequence_length": length},)
    runner, phase, source = prepared(config, store)
    step = runner.compile(phase)
    begin = shown = time.monotonic()
    counted, since, losses = 0.0, 0, []
    for number, batch in enumerate(source.batches(phase), start=1):
        runner.state, sums = step(runner.state, runner.place(batch))
        losses.append(mlm_loss(sums))
        counted += mean_tokens([batch])
        is_last = number == config.total_steps or time.monotonic() > end - 5
        if is_last or (number % 10 == 0 and time.monotonic() > shown + 5):
            values = [float(loss) for loss in jax.device_get(losses[since:])]  # waits for the steps
            shown, since = time.monotonic(), len(losses)
            yield {
                "step": number,
                "of": config.total_steps,
                "loss": statistics.fmean(values),
                "tokens": counted,
                "tokens_per_second": counted / (shown - begin),
            }
        if is_last:
            break


RUNS = {
    "tests": tests,
    "export": export,
    "bytes": equal_bytes,
    "digest": trained_digest,
    "steps": steps,
    "train": train,
}


def main(arguments: Sequence[str]) -> None:
    """Print the rows of the part that is named."""
    from bert_jax.common import platforms

    platforms.hide_missing_tpu()
    for row in RUNS[arguments[1]]():
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("store", None, "Token store of the training run")
    flags.DEFINE_float("seconds", 120.0, "For the training run")
    flags.DEFINE_float("tokens_per_second", 500_000.0, "That the training run is expected to reach")
    flags.DEFINE_bool("tiny", False, "A small form")
    app.run(main)
