"""The run's own account of itself: figures of each logged step, and where the time went."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from bert_jax.model import ModelConfig
from bert_jax.performance import flops
from bert_jax.run.metrics import Writers, summarize
from bert_jax.stream.phases import Phase


class Reporter:
    """Logs every `config.log_every`-th step, one step late, so that the host never waits.

    The rates of a record are means since the record before: of the time between, less pauses.
    """

    def __init__(
        self, config: ConfigDict, directory: Path, mesh: Mesh, model: ModelConfig, first_step: int
    ):
        """Go on with the records in `directory` after `first_step`."""
        self._config = config
        self._model = model
        self._devices = mesh.devices.flatten()
        is_writer = jax.process_index() == 0
        self._writers = Writers(directory, config.total_steps, first_step) if is_writer else None
        self._pending: tuple[int, Phase, Any] | None = None
        self._phase: Phase | None = None
        self._restart_clock(first_step)

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Time spent in here counts as waiting for the stream."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    @contextlib.contextmanager
    def pause(self, sums: Any) -> Iterator[None]:
        """Time spent in here, from the moment `sums` are there, counts for no rate."""
        jax.block_until_ready(sums)
        self._write_pending()
        began = time.monotonic()
        yield
        self._clock += time.monotonic() - began

    def train(self, step: int, phase: Phase, sums: Any) -> None:
        """Take the sums of a step just dispatched; write those of an earlier one."""
        self._write_pending()
        if phase is not self._phase:  # the step was compiled, which counts for no rate
            jax.block_until_ready(sums)
            self._phase = phase
            self._restart_clock(step)
        if step % self._config.log_every == 0 or step == self._config.total_steps:
            self._pending = (step, phase, sums)

    def evaluation(self, step: int, split: str, sums: Any) -> None:
        """Write the figures of an evaluation."""
        self._write(step, split, self._summary(sums))

    def close(self) -> None:
        """Write what is pending and close the files."""
        self._write_pending()
        if self._writers is not None:
            self._writers.close()

    def _write_pending(self) -> None:
        if self._pending is None:
            return
        step, phase, sums = self._pending
        self._pending = None
        figures = self._summary(sums)  # waits until the device has finished that step
        self._write(step, "train", figures | self._rates(step, phase))
        self._restart_clock(step)

    def _summary(self, sums: Any) -> dict[str, float]:
        return summarize(jax.device_get(sums), self._config.optimizer.next_sentence_weight)

    def _rates(self, step: int, phase: Phase) -> dict[str, float]:
        steps = step - self._clock_step
        seconds = time.monotonic() - self._clock
        if not steps or not seconds:
            return {}  # the record of a step that was compiled
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
