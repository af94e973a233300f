"""The figures of a run: logged without stopping the device, with rates that leave pauses out."""

import contextlib
import importlib.metadata
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bert_jax.common import console
from bert_jax.config import RunSettings
from bert_jax.model import ModelConfig
from bert_jax.performance import flops
from bert_jax.run import goodput, metrics, trackers
from bert_jax.run.goodput import Clock
from bert_jax.run.health import Facts, Health
from bert_jax.run.metrics import Writers, summarize
from bert_jax.run.saved_config import Change
from bert_jax.run.slow_hosts import Gathering
from bert_jax.run.step_watch import StepWatch
from bert_jax.run.watchdog import Watchdog
from bert_jax.stream.phases import Phase
from bert_jax.training.evaluation import ALL
from bert_jax.training.step import SKIPPED, StepFigures, TotalsByName

VERSIONS = ("bert_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Reporter:
    """Logs every `log_every`-th step after the next one is dispatched: the host does not wait.

    Rates are means since the previous record, without the time in `pause`.
    """

    def __init__(
        self,
        settings: RunSettings,
        directory: Path,
        mesh: Mesh,
        model: ModelConfig,
        first_step: int,
        clock: Clock | None = None,
        spikes: Sequence[Mapping[str, Any]] = (),
        memory: str = "",
        entropy: float = 0.0,
    ):
        """Continue the records in `directory` after `first_step`.

        Args:
          settings: of the run.
          directory: of the run.
          mesh: of the devices.
          model: the encoder, for its cost.
          first_step: of this process.
          clock: of this process.
          spikes: that were left out so far.
          memory: what `memory` returned when the state at `first_step` was saved.
          entropy: of the corpus' token frequencies, in nats.
        """
        self._settings = settings
        self._first_step = first_step
        self._time = clock or Clock()
        self._paused = 0.0  # seconds of the last pause
        self._model = model
        self._devices = mesh.devices.flatten()
        is_writer = jax.process_index() == 0
        self._writers = None
        if is_writer:
            tracker = trackers.start(settings.tracker, directory, settings.model)
            self._writers = Writers(directory, settings.total_steps, first_step, tracker)
        self._pending: tuple[int, Phase, StepFigures, str] | None = None
        self._spikes = {spike["first"] + 1: spike for spike in spikes}  # by the step after
        self._watch = StepWatch(
            settings.objective.loss_weights, settings.max_skipped_updates, settings.spikes, memory
        )
        self.memory = self._watch.memory
        facts = Facts(settings.training.optimizer.sections[0].warmup_steps, entropy)
        self._health = Health(facts, metrics.read_all(directory) if is_writer else ())
        self._input: Any = None  # the last batch
        self._is_compiling = False
        self._watchdog = Watchdog(
            directory,
            self._time,
            settings.log_every,
            settings.watchdog_factor,
            settings.watchdog_minimum,
        )
        self.watching = self._watchdog.watching
        self._paces = Gathering()
        self._restart_clock(first_step)

    def start(self, config_hash: str, changes: Sequence[Change]) -> None:
        """Write that this process begins, or continues, and with which changes of the config."""
        if self._writers is None:
            return
        step = self._first_step
        self.event(
            step,
            "start",
            versions={name: importlib.metadata.version(name) for name in VERSIONS},
            devices=f"{len(self._devices)} x {self._devices[0].device_kind}",
            processes=jax.process_count(),
            config_hash=config_hash,
            started=round(self._time.began, 3),
        )
        if found := self._writers.found:
            self.event(step, "resume", **goodput.before_resume(found, step, self._time.began))
        for field, old, new in changes:
            self.event(step, "config_change", field=field, old=old, new=new)

    def event(self, step: int, name: str, /, **fields: Any) -> None:
        """Write an event of `metrics.EVENTS`, which happened after `step` updates."""
        if self._writers is not None:
            self._writers.event(step, name, fields)

    def begin_phase(self, phase: Phase, first_step: int) -> None:
        """Write what is pending: the next step is compiled first, which no rate includes.

        Args:
          phase: that begins, or that a run continues in.
          first_step: at which this process began.
        """
        self._write_pending()
        if phase.stop <= first_step:
            return
        self._is_compiling = True
        self._time.switch("compiling")
        if phase.start >= first_step:
            self.event(
                phase.start + 1,
                "phase",
                index=phase.index,
                sequence_length=phase.sequence_length,
                global_batch_size=phase.global_batch_size,
            )

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Time spent in here counts as waiting for the stream."""
        began = time.monotonic()
        with self._time.spending("input"):
            yield
        self._waited += time.monotonic() - began

    @contextlib.contextmanager
    def pause(self, figures: StepFigures, kind: str) -> Iterator[None]:
        """Excludes the time inside, once `figures` are computed, from the rates.

        Args:
          figures: of the last step.
          kind: what the time is spent on, one of `goodput.KINDS`.

        Raises:
          SpikeError, UserError: as `train`; never after something was evaluated or saved.
        """
        jax.block_until_ready(figures)
        self._write_pending()
        self._watch.read()
        began = time.monotonic()
        with self._time.spending(kind):
            yield
        self._paused = time.monotonic() - began
        self._clock += self._paused

    def saved(self, step: int, held_out_loss: float | None) -> None:
        """Write that the state was saved at `step`, in the pause before this call."""
        known = {} if held_out_loss is None else {"held_out_loss": held_out_loss}
        self.event(step, "checkpoint", seconds=round(self._paused, 3), **known)
        self.event(step, "goodput", **self._time.seconds())

    def takes(self, batch: Mapping[str, Any]) -> None:
        """Note the batch of the next step, for the digest in its record."""
        self._input = batch

    def train(self, step: int, phase: Phase, figures: StepFigures) -> None:
        """Take the figures of a step just dispatched; write those of an earlier one.

        Raises:
          UserError: `config.max_skipped_updates` updates in a row were not finite.
          SpikeError: the loss of a step since the last record is one.
        """
        self._write_pending()
        if spike := self._spikes.get(step):
            self.event(
                step,
                "skipped",
                stop=spike["step"],
                **{name: spike[name] for name in ("first", "loss", "median")},
            )
        if self._is_compiling:
            jax.block_until_ready(figures)
            self._restart_clock(step)
            self._is_compiling = False
            self._time.switch("steps")
        self._watchdog.step(step)
        self._watch.add(step, phase, figures)
        if step % self._settings.log_every == 0 or step == self._settings.total_steps:
            self._pending = (step, phase, figures, self._digest())

    def evaluation(self, step: int, split: str, totals: Mapping[str, TotalsByName]) -> float:
        """Write the figures of an evaluation: of all sources, and of each one if there are several.

        Returns the loss over all sources.

        Args:
          step: of the state that was evaluated.
          split: evaluated.
          totals: by source, as `training.evaluation.evaluate` returns them.
        """
        for source, of_source in totals.items():
            if source == ALL or len(totals) > 2:
                name = split if source == ALL else f"{split}/{source}"
                self._write(step, name, self._summary(of_source))
        return self._summary(totals[ALL])["loss"]

    def probe(self, step: int, scores: Mapping[str, float]) -> None:
        """Write the scores of the frozen encoder on a task."""
        self._write(step, "probe", dict(scores))
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        console.say(f"step {step}: probe: {shown}")

    def close(self) -> None:
        """Write what is pending and close the files."""
        self._write_pending()
        if self._writers is not None:
            self._writers.close()

    def _write_pending(self) -> None:
        if self._pending is None:
            return
        step, phase, figures, of_input = self._pending
        self._pending = None
        self._watch.read(step)
        figures = jax.device_get(figures)
        scalars = {name: float(value) for name, value in figures.scalars.items()}
        scalars[SKIPPED] = float(len(self._watch.skipped))
        self._watch.skipped = []
        record = self._summary(figures.totals) | scalars | self._rates(step, phase)
        record |= {"input": of_input} if of_input else {}
        self._write(step, "train", record)
        self._restart_clock(step)

    def _summary(self, totals: TotalsByName) -> dict[str, float]:
        return summarize(totals, self._settings.objective.loss_weights)

    def _rates(self, step: int, phase: Phase) -> dict[str, float]:
        steps = step - self._clock_step
        seconds = time.monotonic() - self._clock
        if not steps or not seconds:
            return {}  # the record of a step that was compiled
        self._watchdog.measured(seconds / steps)
        self._paces.add(step, seconds / steps, self._waited / steps)
        sequences = steps * phase.global_batch_size / seconds
        rates = {
            "tokens_per_second": sequences * phase.sequence_length,
            "sequences_per_second": sequences,
            "data_wait_fraction": self._waited / seconds,
        }
        if peak := flops.peak(self._devices[0].device_kind, self._model.compute_dtype):
            used = sequences * flops.training(
                self._model, phase.sequence_length, phase.max_predictions
            )
            rates["mfu"] = used / (peak * len(self._devices))
        return rates

    def _digest(self) -> str:
        """A short hash of the first row of the last batch: the same for any number of processes."""
        ids = None if self._input is None else self._input.get("input_ids")
        return "" if ids is None else f"{zlib.crc32(np.ascontiguousarray(ids[0])):08x}"

    def _write(self, step: int, split: str, figures: dict[str, Any]) -> None:
        if self._writers is None:
            return
        self._writers.write(step, split, figures)
        for finding in self._health.add({"step": step, "split": split, **figures}):
            console.say(f"Warning: {finding.text}.")
            how = {"rests_on_times": True} if finding.rests_on_times else {}
            self.event(step, "warning", name=finding.name, text=finding.text, **how)

    def _restart_clock(self, step: int) -> None:
        self._clock, self._clock_step, self._waited = time.monotonic(), step, 0.0
