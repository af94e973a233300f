"""The training step of a run, compiled, timed and profiled on this machine's devices."""

import collections
import concurrent.futures
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from bert_jax.common import compile_cache
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings
from bert_jax.corpus.store import MANIFEST, TokenStore
from bert_jax.model import Batch as DeviceBatch
from bert_jax.performance import capacity, flops, profiling
from bert_jax.performance.synthetic import random_batches
from bert_jax.performance.turns import process_peak
from bert_jax.stream.batches import TrainBatches, all_rows
from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch
from bert_jax.training import sharding
from bert_jax.training.preflight import attention_names, check, vocab_size
from bert_jax.training.step import (
    CompiledUpdate,
    StepFigures,
    TrainState,
    abstract_batch,
    compile_steps,
)

WARM_UP = 2  # steps that are not counted
PROFILED = 3  # steps in the trace
BATCHES = 4  # different random ones
INPUT = "input"
END: Any = object()  # of an iterator
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the batches come from.

    Attributes:
      vocab_size: size of their tokenizer's vocabulary.
      batches: those of a phase; endless, except from `stored`.
    """

    vocab_size: int
    batches: Callable[[Phase], Iterator[Batch]]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One phase, measured. FLOPs are those of a step on all devices.

    Attributes:
      phase: its index in the run.
      sequence_length: L.
      global_batch_size: B.
      devices: how many.
      attention: the backends that compute it.
      compile_seconds: to compile the step, or to read it from the compile cache.
      is_cached: whether it was read.
      step_seconds: of each counted step, in order.
      tokens: of a step's rows without padding; like real_flops, the mean of the first batches.
      row_flops: `flops.training` of rows without padding that are one document each.
      real_flops: `flops.of_batch`, the mean.
      compiler_flops: all operations, as the compiler counts them; negative where it does not.
      peak: FLOP/s of one device that count as 100 %.
      peak_source: where `peak` is from.
      program_bytes: of a device's memory for the state, the batch and temporaries.
      device_peak_bytes: the most that a device's allocator had allocated; None: not reported.
      process_peak_bytes: the most resident memory of this process.
      part_seconds: of a step, by part; steps were run one by one for it.
    """

    phase: int
    sequence_length: int
    global_batch_size: int
    devices: int
    attention: str
    compile_seconds: float
    is_cached: bool
    step_seconds: tuple[float, ...]
    tokens: float
    row_flops: float
    real_flops: float
    compiler_flops: float
    peak: float
    peak_source: str
    program_bytes: int
    device_peak_bytes: int | None
    process_peak_bytes: int
    part_seconds: dict[str, float]

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return float(np.median(self.step_seconds))

    @property
    def mfu(self) -> float:
        """Share of the peak that the matrix products of real tokens use."""
        return self.real_flops / self.median / (self.peak * self.devices)

    def summary(self) -> dict[str, Any]:
        """All fields and the figures derived from them, for the JSON file."""
        low, high = np.percentile(self.step_seconds, [10, 90]).tolist()
        return dataclasses.asdict(self) | {
            "step_seconds_median": self.median,
            "step_seconds_p10": low,
            "step_seconds_p90": high,
            "step_seconds_best": min(self.step_seconds),
            "tokens_per_second": self.tokens / self.median,
            "sequences_per_second": self.global_batch_size / self.median,
            "mfu": self.mfu,
        }


def synthetic(settings: RunSettings) -> Source:
    """Random batches, made before the clock starts."""
    size = vocab_size(settings.corpus.tokenizer)

    def batches(phase: Phase) -> Iterator[Batch]:
        return itertools.cycle(random_batches(settings.objective, phase, size, BATCHES))

    return Source(size, batches)


def real(settings: RunSettings, directory: Path) -> Source:
    """The batches of a run, from the token store of its workdir.

    Raises:
      UserError: there is none.
    """
    store_directory = settings.store_directory(directory)
    if not (store_directory / MANIFEST).is_file():
        raise UserError(
            f"--batches=real: there is no token store in {store_directory}. Make it with python -m "
            "bert_jax.prepare and the same --config and --workdir, or take --batches=synthetic"
        )
    store = TokenStore.open(store_directory)
    stream = TrainBatches(store, settings.stream)

    def batches(phase: Phase) -> Iterator[Batch]:
        from bert_jax.stream import pipeline  # TensorFlow takes seconds to import

        while True:
            yield from pipeline.train_batches(stream, phase.start, phase.stop, all_rows)

    return Source(store.vocabulary.size, batches)


def stored(settings: RunSettings, store: TokenStore) -> Source:
    """A phase's batches once, from a token store, without TensorFlow: built ahead by a thread."""
    stream = TrainBatches(store, settings.stream)

    def batches(phase: Phase) -> Iterator[Batch]:
        return ahead(stream.batch(step) for step in range(phase.start, phase.stop))

    return Source(store.vocabulary.size, batches)


def ahead(items: Iterable[T], size: int = 4) -> Iterator[T]:
    """The items, up to `size` of them computed in advance by a thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        source = iter(items)
        waiting = collections.deque(thread.submit(next, source, END) for _ in range(size))
        while (item := waiting.popleft().result()) is not END:
            waiting.append(thread.submit(next, source, END))
            yield item


class Runner:
    """A run's training step on its mesh, and its current state."""

    def __init__(self, settings: RunSettings, source: Source):
        """Draw the parameters; the batch sizes must divide over the mesh."""
        self.settings = settings
        self.source = source
        self.mesh = sharding.make_mesh(settings.training.mesh)
        models = settings.models(source.vocab_size)
        check(settings.training, settings.stream.phases, models, self.mesh)
        self.model = models[0]
        self.state: TrainState = compile_steps(settings.training, self.model, self.mesh).init()

    def compile(self, phase: Phase) -> CompiledUpdate:
        """The step for a phase's batches."""
        batch = abstract_batch(self.settings.objective, self.mesh, phase)
        model = self.settings.model_config(self.source.vocab_size, phase)
        steps = compile_steps(self.settings.training, model, self.mesh)
        return steps.train.compile(steps.abstract_state, batch)

    def timed(self, step: CompiledUpdate, batches: Iterator[Batch], count: int) -> list[float]:
        """Seconds between the ends of successive steps.

        As in training, a step is dispatched before the previous one has ended, so that the transfer
        of its batch overlaps with it.
        """
        ends: list[float] = []
        running: Any = None
        for batch in itertools.islice(batches, count + 1):
            self.state, sums = step(self.state, self.place(batch))
            if running is not None:
                jax.block_until_ready(running)
                ends.append(time.perf_counter())
            running = sums
        jax.block_until_ready((running, self.state))
        ends.append(time.perf_counter())
        return np.diff(ends).tolist()

    def profiled(self, step: CompiledUpdate, batches: Iterator[Batch]) -> dict[str, float]:
        """Seconds of each part in a step; nothing overlaps, so the sum is the whole."""
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        text = step.program.as_text()
        if text is None:
            raise ValueError("the compiler does not report its program")
        waited = computed = 0.0
        with tempfile.TemporaryDirectory() as trace:
            jax.profiler.start_trace(trace, profiler_options=options)
            for _ in range(PROFILED):
                begin = time.perf_counter()
                placed = jax.block_until_ready(self.place(next(batches)))
                ready = time.perf_counter()
                self.state, sums = step(self.state, placed)
                jax.block_until_ready((self.state, sums))
                waited += ready - begin
                computed += time.perf_counter() - ready
            jax.profiler.stop_trace()
            parts = profiling.instruction_parts(text)
            total = profiling.time_by_part(Path(trace), parts, "jit_train", computed)
        return {name: seconds / PROFILED for name, seconds in {INPUT: waited, **total}.items()}

    def place(self, batch: Batch) -> DeviceBatch:
        """A batch on the devices."""
        return sharding.place_batch(self.mesh, batch, len(batch["input_ids"]))


def mlm_loss(figures: StepFigures) -> jax.Array:
    """The mean loss of a step's predictions, in nats."""
    mlm = figures.totals["mlm"]
    return mlm.loss / mlm.weight


def mean_tokens(batches: Sequence[Batch]) -> float:
    """Tokens of a batch without the padding."""
    return float(np.mean([(batch["segment_ids"] > 0).sum() for batch in batches]))


def measure(runner: Runner, phase: Phase, count: int, peak: tuple[float, str]) -> Measurement:
    """Compile and run the step of a phase.

    Args:
      runner: of the run.
      phase: of the run.
      count: steps to time.
      peak: FLOP/s of a device, and where the figure is from.
    """
    begin = time.perf_counter()
    with compile_cache.Watch() as watch:
        step = runner.compile(phase)
    seconds = time.perf_counter() - begin
    batches = runner.source.batches(phase)
    seen = [next(batches) for _ in range(BATCHES)]
    batches = itertools.chain(seen, batches)
    runner.timed(step, batches, WARM_UP)
    timed = runner.timed(step, batches, count)
    devices = runner.mesh.devices.flatten()
    cost = step.program.cost_analysis() or {}
    row = flops.training(runner.model, phase.sequence_length, phase.max_predictions)
    return Measurement(
        phase=phase.index,
        sequence_length=phase.sequence_length,
        global_batch_size=phase.global_batch_size,
        devices=len(devices),
        attention=attention_names(runner.model, runner.mesh, phase),
        compile_seconds=seconds,
        is_cached=watch.read > 0,
        step_seconds=tuple(timed),
        tokens=mean_tokens(seen),
        row_flops=row * phase.global_batch_size,
        real_flops=float(np.mean([flops.of_batch(runner.model, batch) for batch in seen])),
        compiler_flops=cost.get("flops", -1.0) * len(devices),
        peak=peak[0],
        peak_source=peak[1],
        program_bytes=capacity.bytes_in_use(step.program),
        device_peak_bytes=(devices[0].memory_stats() or {}).get("peak_bytes_in_use"),
        process_peak_bytes=process_peak(),
        part_seconds=runner.profiled(step, batches),
    )


def peak_of(device: jax.Device, dtype: str, *, is_measured: bool) -> tuple[float, str]:
    """FLOP/s of a device, and where the figure is from: its data sheet, or a measurement."""
    known = flops.peak(device.device_kind, dtype)
    if known is None or is_measured:
        return flops.measured_peak(device, dtype), f"measured {dtype} matrix products"
    return known, f"data sheet of {device.device_kind}, {dtype}"
