"""What a run reports: device-side sums turned into figures, and the writers that keep them."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from bert_jax.model import Totals

Figures = Mapping[str, float | int | str]


def summarize(totals: Mapping[str, Totals], loss_weights: Mapping[str, float]) -> dict[str, float]:
    """Means over the predictions of each loss, and their weighted sum `loss`.

    Args:
      totals: by the name of the loss; `mlm` becomes `mlm_loss` and `mlm_accuracy`.
      loss_weights: of each loss in `loss`.
    """
    figures = {"loss": 0.0}
    for name, (loss, metrics, weight) in totals.items():
        number = max(float(weight), 1.0)
        figures[f"{name}_loss"] = float(loss) / number
        for metric, value in metrics.items():
            figures[f"{name}_{metric}"] = float(value) / number
        figures["loss"] += loss_weights[name] * figures[f"{name}_loss"]
    return figures


class Writers:
    """Writes each record to metrics.jsonl, TensorBoard and the console."""

    def __init__(self, workdir: Path, total_steps: int, first_step: int):
        """Go on after `first_step`: what an interrupted run wrote beyond it is dropped."""
        self._path = workdir / "metrics.jsonl"
        _keep_until(self._path, first_step)
        self._lines: TextIO = self._path.open("a", buffering=1)
        # Records written one by one: tensorboard's own event writer would import TensorFlow.
        events = workdir / "tensorboard" / f"events.out.tfevents.{time.time_ns()}.bert_jax"
        events.parent.mkdir(exist_ok=True)
        self._tensorboard = RecordWriter(events.open("wb"))
        self._add_event(file_version="brain.Event:2")
        restart = SessionLog(status=SessionLog.START)
        self._add_event(step=first_step + 1, session_log=restart)
        self._console = Console(total_steps, first_step)

    def write(self, step: int, split: str, figures: Figures) -> None:
        """Keep the figures of `split` ("train" or an evaluation split) at `step`."""
        print(json.dumps({"step": step, "split": split, **figures}), file=self._lines)
        values = [
            Summary.Value(tag=f"{split}/{name}", simple_value=value)
            for name, value in figures.items()
            if isinstance(value, int | float)
        ]
        self._add_event(step=step, summary=Summary(value=values))
        self._console.show(step, split, figures)

    def close(self) -> None:
        """Flush and close everything."""
        self._lines.close()
        self._tensorboard.close()
        self._console.close()

    def _add_event(self, **fields: Any) -> None:
        event = Event(wall_time=time.time(), **fields)
        self._tensorboard.write(event.SerializeToString())
        self._tensorboard.flush()


class Console:
    """A progress bar on a terminal, one plain line a record elsewhere."""

    def __init__(self, total_steps: int, first_step: int):
        """Start the clock for the time left."""
        self._total_steps = total_steps
        self._first_step = first_step
        self._began = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True)

    def show(self, step: int, split: str, figures: Figures) -> None:
        """Show one record."""
        text = describe(figures)
        if self._bar is None:
            left = "" if split != "train" else f"  {self._time_left(step)} left"
            print(f"step {step}/{self._total_steps}  {split}  {text}{left}", flush=True)
        elif split == "train":
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(text)
        else:
            self._bar.write(f"step {step}/{self._total_steps}  {split}  {text}")

    def close(self) -> None:
        """Leave the bar where it stands."""
        if self._bar is not None:
            self._bar.close()

    def _time_left(self, step: int) -> str:
        done = max(step - self._first_step, 1)
        seconds = (time.monotonic() - self._began) / done * (self._total_steps - step)
        return tqdm.format_interval(seconds)


def describe(figures: Figures) -> str:
    """The figures that a person follows, in one line."""
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
    return "  ".join(parts)


def read(workdir: Path) -> list[dict]:
    """The records of a run's metrics.jsonl, oldest first."""
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _keep_until(path: Path, step: int) -> None:
    """Drop the records after `step`, and a last line that was cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text("".join(kept))
    os.replace(unfinished, path)
