"""The training step compared with that of `transformers`: same model, batches and machine."""

import dataclasses
import importlib.util
import itertools
import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from bert_jax.common import compile_cache
from bert_jax.common.console import say
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.interop.configs import architecture, to_hugging_face
from bert_jax.model import ModelConfig
from bert_jax.performance import flops
from bert_jax.performance.measuring import BATCHES, Runner, Source, mean_tokens, mlm_loss
from bert_jax.performance.turns import Side, Step, answer
from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch
from bert_jax.training.settings import OptimizerSettings

OURS = "bert_jax"  # in the config's compute dtype
SIDES = (
    *("eager_float32", "eager_bfloat16", "compiled_float32", "compiled_bfloat16"),
    *("bert_jax_float32", "bert_jax_bfloat16"),
)
DEFAULT = ["eager_float32", "compiled_bfloat16"]


def is_ours(name: str | None) -> bool:
    """Whether a side computes with this package, as the benchmark itself (None) does."""
    return name is None or name.startswith(OURS)


def make_step(name: str, settings: RunSettings, source: Source, phase: Phase) -> Step:
    """The step of a side."""
    stream = source.batches(phase)
    batches = [next(stream) for _ in range(BATCHES)]  # ready before the clock starts
    kind, _, dtype = name.rpartition("_")
    if name == OURS:
        return jax_step(settings, source, phase, batches)
    if kind == OURS:
        typed = {**settings.model, "compute_dtype": dtype}
        return jax_step(dataclasses.replace(settings, model=typed), source, phase, batches)
    model = settings.model_config(source.vocab_size, phase)
    optimizer = settings.training.optimizer
    return torch_step(model, optimizer, batches, dtype, is_compiled=kind == "compiled")


def jax_step(settings: RunSettings, source: Source, phase: Phase, batches: Sequence[Batch]) -> Step:
    """Our compiled step, as `bert_jax.train` runs it."""
    runner = Runner(settings, source)
    compiled = runner.compile(phase)
    placed = itertools.cycle([runner.place(batch) for batch in batches])

    def step() -> float:
        runner.state, figures = compiled(runner.state, next(placed))
        return float(mlm_loss(figures))

    return step


def torch_step(
    model: ModelConfig,
    settings: OptimizerSettings,
    batches: Sequence[Batch],
    dtype: str,
    *,
    is_compiled: bool,
) -> Step:
    """`transformers` under the usual loop, on the GPU if there is one.

    Labels are -100 where nothing is predicted. Attention covers the whole row: it does not separate
    packed documents, so it pays nothing for that.
    """
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(len(os.sched_getaffinity(0)))  # all that JAX uses, too
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32, as JAX's default
    name = architecture(model)
    special = np.zeros(model.vocab_size, bool)
    vocabulary = Vocabulary(model.vocab_size, 0, 1, 2, 3, 4, special, special)
    values = to_hugging_face(model, vocabulary)
    torch_config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    torch_config._attn_implementation = "sdpa"
    bert = getattr(transformers, name)(torch_config).to(device).train()
    forward = torch.compile(bert) if is_compiled else bert
    decay = settings.weight_decay
    optimizer = torch.optim.AdamW(bert.parameters(), lr=settings.learning_rate, weight_decay=decay)
    ready = itertools.cycle(
        [
            {
                field: torch.from_numpy(array).to(device)
                for field, array in labelled(b, name).items()
            }
            for b in batches
        ]
    )

    def step() -> float:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = forward(**next(ready)).loss
        loss.backward()
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(bert.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()  # waits for the device

    return step


def labelled(batch: Batch, name: str) -> dict[str, np.ndarray]:
    """A batch as Hugging Face's collator would give it to the class `name`."""
    labels = np.full(batch["input_ids"].shape, -100)
    rows, columns = np.nonzero(batch["masked_weights"])
    labels[rows, batch["masked_positions"][rows, columns]] = batch["masked_labels"][rows, columns]
    fields = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["segment_ids"] > 0,
        "position_ids": batch["position_ids"],
        "labels": labels,
    }
    if name != "ModernBertForMaskedLM":
        fields["token_type_ids"] = batch["token_type_ids"]
    if name == "BertForPreTraining":
        fields["next_sentence_label"] = batch["next_sentence_label"]
    return {field: array.astype(np.int64) for field, array in fields.items()}


def serve(name: str, settings: RunSettings, source: Source, phase: Phase) -> None:
    """Run one side in this process, as `turns.answer`, until its input ends."""
    compile_cache.use(compile_cache.OFF)
    batches = list(itertools.islice(source.batches(phase), BATCHES))
    model = settings.model_config(source.vocab_size, phase)
    work = {
        "tokens": mean_tokens(batches),
        "flops": statistics.fmean(flops.of_batch(model, batch) for batch in batches),
    }
    device = jax_device if is_ours(name) else torch_device
    answer(lambda: make_step(name, settings, source, phase), lambda: work | device())


def jax_device() -> dict[str, Any]:
    """The first device's name, and the most bytes in use on it so far (None: not counted)."""
    device = jax.devices()[0]
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return {"device": device.device_kind, "device_peak_bytes": peak}


def torch_device() -> dict[str, Any]:
    """The same for PyTorch's device."""
    import torch

    if not torch.cuda.is_available():
        return {"device": "cpu", "device_peak_bytes": None}
    peak = torch.cuda.max_memory_allocated()
    return {"device": torch.cuda.get_device_name(), "device_peak_bytes": peak}


@dataclasses.dataclass(frozen=True)
class Result:
    """Times of a side; `times_ours`: its step divided by ours of the same round, by round."""

    side: str
    step_seconds_best: float
    step_seconds_median: float
    tokens_per_second: float
    times_ours: list[float]
    first_step_seconds: float
    process_peak_bytes: int
    rounds: list[list[float]]


def compare(
    names: Sequence[str], phase: Phase, tokens: float, rounds: int, steps: int
) -> list[Result]:
    """Run our side and the named ones in turns, and print each turn's times.

    Each side is this command again, with its flags and `--side`.

    Args:
      names: of SIDES.
      phase: of the run.
      tokens: of a batch, without the padding.
      rounds: how often each side gets its turn.
      steps: that are counted in a turn.

    Raises:
      UserError: a package is missing, or a side fails.
    """
    needs_torch = not all(is_ours(name) for name in names)
    for package in ("torch", "transformers"):
        if needs_torch and importlib.util.find_spec(package) is None:
            raise UserError(f"--compare needs {package}: pip install torch transformers")
    command = [sys.executable, "-m", "bert_jax.benchmark", *sys.argv[1:], f"--phase={phase.index}"]
    sides: list[Side] = []
    try:
        for name in (OURS, *names):
            sides.append(Side(name, [*command, f"--side={name}"]))
            sides[-1].warm_up()
            say(f"{name}: the first step took {sides[-1].first_step:.1f} s, compiling included")
        for number in range(1, rounds + 1):
            for side in sides:
                side.turn(steps)
                median = statistics.median(side.rounds[-1])
                ratio = median / statistics.median(sides[0].rounds[-1])
                say(
                    f"round {number} of {rounds}: {side.name:20} {1e3 * median:9.1f} ms, "
                    f"{ratio:.2f} x ours"
                )
    finally:
        for side in sides:
            side.close()
    return [result(side, sides[0], tokens) for side in sides]


def result(side: Side, ours: Side, tokens: float) -> Result:
    """A side's figures, with the ratios to ours."""
    seconds = [each for block in side.rounds for each in block]
    median = statistics.median(seconds)
    return Result(
        side=side.name,
        step_seconds_best=min(seconds),
        step_seconds_median=median,
        tokens_per_second=tokens / median,
        times_ours=[
            statistics.median(side_seconds) / statistics.median(our_seconds)
            for side_seconds, our_seconds in zip(side.rounds, ours.rounds, strict=True)
        ],
        first_step_seconds=side.first_step,
        process_peak_bytes=side.peak_bytes,
        rounds=side.rounds,
    )


def table(results: Sequence[Result]) -> str:
    """The figures as a text table."""
    ours = results[0]
    rows = [
        f"{'':20}{'step, ms':>18}{'tokens/s':>12}{'ours is so many times as fast':>44}{'peak':>10}",
        f"{'':20}{'best':>9}{'median':>9}{'':12}{'lowest  median highest  best by best':>44}",
    ]
    for each in results:
        ratios = each.times_ours
        by_best = each.step_seconds_best / ours.step_seconds_best
        rows.append(
            f"{each.side:20}{1e3 * each.step_seconds_best:9.1f}"
            f"{1e3 * each.step_seconds_median:9.1f}{each.tokens_per_second:12,.0f}{'':8}"
            f"{min(ratios):8.2f}{statistics.median(ratios):8.2f}{max(ratios):8.2f}{by_best:12.2f}"
            f"{each.process_peak_bytes / 2**30:6.1f} GiB"
        )
    return "\n".join(rows)
