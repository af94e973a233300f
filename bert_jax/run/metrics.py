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

Figures = Mapping[str, float | int | str]


def summarize(sums: Mapping[str, Any], next_sentence_weight: float) -> dict[str, float]:
    """Means from sums and counts.

    Args:
      sums: `mlm_loss`, `mlm_correct`, `mlm_count`, the same with `nsp_` where the objective has
        pairs, and anything else, which is passed on.
      next_sentence_weight: of the next-sentence loss in `loss`.
    """
    rest = {name: float(value) for name, value in sums.items() if name[:4] not in ("mlm_", "nsp_")}
    figures = {"loss": 0.0}
    for head, weight in (("mlm", 1.0), ("nsp", next_sentence_weight)):
        if f"{head}_count" in sums:
            count = max(float(sums[f"{head}_count"]), 1.0)
            figures[f"{head}_loss"] = float(sums[f"{head}_loss"]) / count
            figures[f"{head}_accuracy"] = float(sums[f"{head}_correct"]) / count
            figures["loss"] += weight * figures[f"{head}_loss"]
    return figures | rest


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
    formats = {
        "loss": "loss {:.3f}",
        "mlm_loss": "mlm {:.3f}",
        "mlm_accuracy": "acc {:.3f}",
        "nsp_loss": "nsp {:.3f}",
        "nsp_accuracy": "nsp acc {:.3f}",
        "learning_rate": "lr {:.2e}",
        "tokens_per_second": "{:,.0f} tok/s",
    }
    return "  ".join(
        text.format(figures[name]) for name, text in formats.items() if name in figures
    )


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
