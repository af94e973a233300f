"""The measurements of benchmarks/gpu.py: each yields rows of figures."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import flags

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, Any]

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
        runner.state, found = step(runner.state, runner.place(batch))
        losses.append(mlm_loss(found))
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


def prepared(config: Any, store: Any = None) -> Any:
    """The step of a config's first phase: (runner, phase, source of batches)."""
    from bert_jax.config import parse
    from bert_jax.performance.measuring import Runner, stored, synthetic

    settings = parse(config)
    source = stored(settings, store) if store else synthetic(settings)
    return Runner(settings, source), settings.stream.phases[0], source
