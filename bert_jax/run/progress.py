"""The figures of a run: logged without stopping the device, with rates that leave pauses out."""

import contextlib
import importlib.metadata
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from jaxtyping import Array

from bert_jax.common import console
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings
from bert_jax.model import ModelConfig
from bert_jax.performance import flops
from bert_jax.run import goodput
from bert_jax.run.goodput import Clock
from bert_jax.run.metrics import Writers, summarize
from bert_jax.run.saved_config import Change
from bert_jax.run.slow_hosts import Gathering
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
    ):
        """Continue the records in `directory` after `first_step`."""
        self._settings = settings
        self._first_step = first_step
        self._time = clock or Clock()
        self._paused = 0.0  # seconds of the last pause
        self._model = model
        self._devices = mesh.devices.flatten()
        is_writer = jax.process_index() == 0
        self._writers = Writers(directory, settings.total_steps, first_step) if is_writer else None
        self._pending: tuple[int, Phase, StepFigures] | None = None
        self._skipped: list[tuple[int, Array]] = []  # since the last record, on the device
        self._skipped_in_a_row = 0
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

    def event(self, step: int, name: str, **fields: Any) -> None:
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
        """
        jax.block_until_ready(figures)
        self._write_pending()
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

    def train(self, step: int, phase: Phase, figures: StepFigures) -> None:
        """Take the figures of a step just dispatched; write those of an earlier one.

        Raises:
          UserError: `config.max_skipped_updates` updates in a row were not finite.
        """
        self._write_pending()
        if self._is_compiling:
            jax.block_until_ready(figures)
            self._restart_clock(step)
            self._is_compiling = False
            self._time.switch("steps")
        self._watchdog.step(step)
        self._skipped.append((step, figures.scalars[SKIPPED]))
        if step % self._settings.log_every == 0 or step == self._settings.total_steps:
            self._pending = (step, phase, figures)

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
        step, phase, figures = self._pending
        self._pending = None
        figures = jax.device_get(figures)  # waits until the device has finished that step
        scalars = {name: float(value) for name, value in figures.scalars.items()}
        scalars[SKIPPED] = float(self._count_skipped(step, figures))
        record = self._summary(figures.totals) | scalars | self._rates(step, phase)
        self._write(step, "train", record)
        self._restart_clock(step)

    def _count_skipped(self, step: int, figures: StepFigures) -> int:
        """The updates up to `step` that were left out since the last record."""
        until = [(at, skipped) for at, skipped in self._skipped if at <= step]
        self._skipped = self._skipped[len(until) :]
        skipped = []
        for at, is_skipped in jax.device_get(until):
            self._skipped_in_a_row = self._skipped_in_a_row + 1 if is_skipped else 0
            if is_skipped:
                skipped.append(at)
        if skipped:
            console.say(
                f"Warning: the loss or gradient of step {', '.join(map(str, skipped[:5]))}"
                f"{', ...' if len(skipped) > 5 else ''} was not finite; "
                f"{len(skipped)} of {len(until)} updates were left out."
            )
        if self._skipped_in_a_row >= self._settings.max_skipped_updates:
            raise UserError(
                f"the loss or gradient of the last {self._skipped_in_a_row} steps up to {step} was "
                f"not finite (loss {self._summary(figures.totals)['loss']:.3g}, gradient norm "
                f"{float(figures.scalars['grad_norm']):.3g}): lower config.learning_rate, warm up "
                "longer, set config.optimizer.clip_norm, or compute in float32. These updates were "
                "left out, so the parameters and the checkpoints are finite"
            )
        return len(skipped)

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

    def _write(self, step: int, split: str, figures: dict[str, float]) -> None:
        if self._writers is not None:
            self._writers.write(step, split, figures)

    def _restart_clock(self, step: int) -> None:
        self._clock, self._clock_step, self._waited = time.monotonic(), step, 0.0
