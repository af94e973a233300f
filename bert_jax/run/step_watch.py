"""Watches every step of a run, behind the device: updates left out, spikes of the loss.

The figures of a step stay on the device until they are read together, when a record is written and
before something is evaluated or saved: the host waits for no step.
"""

import json
from collections.abc import Mapping

import jax

from bert_jax.common import console
from bert_jax.common.errors import UserError
from bert_jax.run.metrics import summarize
from bert_jax.stream.phases import Phase
from bert_jax.training.spikes import SpikeSettings, SpikeWatch
from bert_jax.training.step import SKIPPED, StepFigures


class StepWatch:
    """Reads the figures of steps in order. What it decides depends on them alone.

    Attributes:
      skipped: steps whose update was left out, since the caller emptied it; part of the memory.
    """

    def __init__(
        self,
        loss_weights: Mapping[str, float],
        max_skipped_updates: int,
        spikes: SpikeSettings,
        memory: str = "",
    ):
        """Continue after steps that were watched before.

        Args:
          loss_weights: of the objective.
          max_skipped_updates: in a row, at which the run stops.
          spikes: of the run.
          memory: what `memory` returned when the state was saved; empty: a new run.
        """
        before = json.loads(memory or "{}")
        self._loss_weights = loss_weights
        self._most = max_skipped_updates
        self._in_a_row = before.get("skipped_in_a_row", 0)
        self._losses = SpikeWatch(spikes, before.get("phase", 0), before.get("losses", ()))
        self._unread: list[tuple[int, Phase, StepFigures]] = []  # on the device
        self.skipped: list[int] = list(before.get("skipped", ()))

    def memory(self) -> str:
        """What must be saved with a state, so that a resumed run decides as this one does."""
        return json.dumps(
            {
                "phase": self._losses.phase,
                "losses": list(self._losses.losses),
                "skipped_in_a_row": self._in_a_row,
                "skipped": self.skipped,
            }
        )

    def add(self, step: int, phase: Phase, figures: StepFigures) -> None:
        """Take the figures of the next step, which the device may still compute."""
        self._unread.append((step, phase, figures))

    def read(self, until: int | None = None) -> None:
        """Read the figures of the steps up to `until` (None: all); waits until they are computed.

        Raises:
          UserError: too many updates in a row were not finite.
          SpikeError: a loss is far above those before it.
        """
        count = sum(until is None or step <= until for step, _, _ in self._unread)
        read, self._unread = self._unread[:count], self._unread[count:]
        skipped: list[int] = []
        for step, phase, figures in jax.device_get(read):
            loss = summarize(figures.totals, self._loss_weights)["loss"]
            is_skipped = bool(figures.scalars[SKIPPED])
            self._in_a_row = self._in_a_row + 1 if is_skipped else 0
            if is_skipped:
                skipped.append(step)
            if self._in_a_row >= self._most:
                grad_norm = float(figures.scalars["grad_norm"])
                raise UserError(
                    f"the loss or gradient of the last {self._in_a_row} steps up to {step} was not "
                    f"finite (loss {loss:.3g}, gradient norm {grad_norm:.3g}): lower "
                    "config.learning_rate, warm up longer, set config.optimizer.clip_norm, or "
                    "compute in float32. These updates were left out, so the parameters and the "
                    "checkpoints are finite"
                )
            self._losses.add(step, phase, loss)
        if skipped:
            console.say(
                f"Warning: the loss or gradient of step {', '.join(map(str, skipped[:5]))}"
                f"{', ...' if len(skipped) > 5 else ''} was not finite; "
                f"{len(skipped)} of {len(read)} updates were left out."
            )
        self.skipped += skipped
