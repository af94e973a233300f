"""Spikes of the loss: found on the host by a robust statistic, from figures of steps long done."""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.stream.phases import Phase

NORMAL = 1.4826  # standard deviations of a normal distribution in a median absolute deviation
LEAST = 0.01  # the deviation counts as at least this share of the median


@dataclasses.dataclass(frozen=True)
class SpikeSettings:
    """The fields of `config.spikes`."""

    threshold: float
    window: int
    left_out: int
    rollbacks: int


def parse_spikes(config: ConfigDict) -> SpikeSettings:
    """The settings of a config.

    Raises:
      UserError: one is too small.
    """
    for name, value in config.spikes.items():
        least = 0 if name in ("threshold", "rollbacks") else 1
        if value < least:
            raise UserError(f"config.spikes.{name} is {value}: set it to {least} or more")
    return SpikeSettings(**config.spikes.to_dict())


class SpikeError(Exception):
    """The loss of a step is far above those before it.

    Attributes:
      step: updates made, that one included.
      phase: of the step.
      loss: of its batch.
      median: of the window before it.
      deviations: (loss - median) / robust standard deviation.
    """

    def __init__(self, step: int, phase: Phase, loss: float, median: float, deviations: float):
        super().__init__(
            f"the loss of step {step} is {loss:.4g}, {deviations:.0f} robust deviations above "
            f"{median:.4g}, the median of the steps before it"
        )
        self.step, self.phase = step, phase
        self.loss, self.median, self.deviations = loss, median, deviations


class SpikeWatch:
    """Compares the loss of each step with those of the `window` steps before it in its phase.

    What it decides is a function of the losses alone. `losses` and `phase` are all its memory: they
    are saved with a checkpoint, so that a resumed run decides the same.
    """

    def __init__(self, settings: SpikeSettings, phase: int = 0, losses: Sequence[float] = ()):
        """Continue in the phase with the index `phase`, after steps with these losses."""
        self._settings = settings
        self.phase = phase
        self.losses = collections.deque(losses, maxlen=settings.window)

    def add(self, step: int, phase: Phase, loss: float) -> None:
        """Take the next step's loss; one that is not finite was no update, and is left out.

        Raises:
          SpikeError: it is more than `threshold` robust deviations above a full window.
        """
        if phase.index != self.phase:  # other rows have another loss
            self.phase = phase.index
            self.losses.clear()
        if not math.isfinite(loss):
            return
        if self._settings.threshold and len(self.losses) == self._settings.window:
            median, deviation = robust(self.losses)
            if loss - median > self._settings.threshold * deviation:
                raise SpikeError(step, phase, loss, median, (loss - median) / deviation)
        self.losses.append(loss)


def robust(losses: Sequence[float]) -> tuple[float, float]:
    """Median, and standard deviation by the median absolute deviation."""
    values = np.asarray(losses)
    median = float(np.median(values))
    deviation = NORMAL * float(np.median(np.abs(values - median)))
    return median, max(deviation, LEAST * abs(median), 1e-12)
