"""A run on the console: a progress bar on a terminal, elsewhere a plain line for each record."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

Figures = Mapping[str, float | int | str]

SMOOTHING = 0.9  # share of the losses before in the smoothed loss of the bar
_BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left]{postfix}"


class Console:
    """Shows the records of a run."""

    def __init__(self, total_steps: int, first_step: int, phase: int = 0):
        """`phase`: that the run is in, 0, 1, ... ."""
        self._total_steps = total_steps
        self._began: tuple[float, int] | None = None  # when the first record came, and its step
        self._loss, self._weight = 0.0, 0.0  # sums for the smoothed loss
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total_steps, initial=first_step, dynamic_ncols=True, bar_format=_BAR
            )
        self.begin_phase(phase)

    def begin_phase(self, index: int) -> None:
        """The phase `index` begins: 0, 1, ... ."""
        if self._bar is not None:
            self._bar.set_description(f"phase {index + 1}")

    def show(self, step: int, split: str, figures: Figures) -> None:
        text = describe(figures)
        if not text:
            return
        if self._bar is None:
            left = self._time_left(step) if split == "train" else ""
            print(f"step {step}/{self._total_steps}  {split}  {text}{left}", flush=True)
        elif split == "train":
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(describe({**figures, "loss": self._smoothed(figures)}))
        else:
            self._bar.write(f"step {step}/{self._total_steps}  {split}  {text}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _smoothed(self, figures: Figures) -> float:
        """The mean of all losses so far, in which each counts `SMOOTHING` times its successor."""
        loss = float(figures["loss"])
        if loss == loss:  # one that is no number would stay in the mean
            self._loss = SMOOTHING * self._loss + loss
            self._weight = SMOOTHING * self._weight + 1.0
        return self._loss / max(self._weight, 1e-9)

    def _time_left(self, step: int) -> str:
        if self._began is None:  # the steps before were compiled first, which says little
            self._began = time.monotonic(), step
        began, first = self._began
        if step == first:
            return ""
        seconds = (time.monotonic() - began) / (step - first) * (self._total_steps - step)
        return f"  {tqdm.format_interval(seconds)} left"


def describe(figures: Figures) -> str:
    """The main figures in one line."""
    parts = []
    for name, value in figures.items():
        if name == "loss":
            parts.append(f"loss {value:.3f}")
        elif name == "mlm_accuracy":
            parts.append(f"acc {value:.3f}")
        elif name.endswith("_loss"):
            parts.append(f"{name.removesuffix('_loss')} {value:.3f}")
        elif name.endswith("_accuracy"):
            parts.append(f"{name.removesuffix('_accuracy')} acc {value:.3f}")
        elif name == "learning_rate":
            parts.append(f"lr {value:.2e}")
        elif name == "tokens_per_second":
            parts.append(f"{value:,.0f} tok/s")
        elif name == "mfu":
            parts.append(f"mfu {value:.1%}")
    return "  ".join(parts)
