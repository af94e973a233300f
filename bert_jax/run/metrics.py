"""What a run reports: figures computed from sums, events, and where they are written and read.

`metrics.jsonl` has one JSON object a line, in the order of writing. A *record* has `step`, `split`
and figures; an *event* has `step`, `event` (one of `EVENTS`) and its fields. Every line ends with
`time`, seconds since 1970. After a kill, a run writes the same lines as an uninterrupted one, in
the sense of `comparable`.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from bert_jax.common import console
from bert_jax.common.atomic import write_text
from bert_jax.model import Totals
from bert_jax.run.console import Console, Figures
from bert_jax.run.trackers import Tracker

FILE = "metrics.jsonl"

# What happened to the run: written again, with the same fields, when its steps are made again.
RUN_EVENTS = {
    "phase": "a phase begins: index, sequence_length, global_batch_size",
    "skipped": "batches left out after a spike of the loss: first, stop (steps), loss, median",
    "warning": "the run looks unhealthy: name, text (what was seen, and likely causes)",
    "finish": "the last step was made",
}
# What happened to the processes that computed it, which depends on when they were stopped.
PROCESS_EVENTS = {
    "start": "a process begins: versions, devices, processes, config_hash, started",
    "resume": "it continues at `step`: lost_steps, lost_seconds (made again), down_seconds",
    "config_change": "a config field has another value from here on: field, old, new",
    "checkpoint": "the state was saved: seconds (that training stood still), held_out_loss",
    "rollback": "a spike of the loss, from which the run goes back: loss, median",
    "goodput": "seconds of this process by kind",
    "stop": "a signal stopped the run, which is saved",
}
EVENTS = RUN_EVENTS | PROCESS_EVENTS
# Those that a checkpoint does not undo: they stay when the run goes on before their step.
LASTING = ("start", "resume", "config_change", "rollback", "stop")
# Figures that depend on the machine and the hour.
TIME_BASED = ("time", "tokens_per_second", "sequences_per_second", "mfu", "data_wait_fraction")


def summarize(totals: Mapping[str, Totals], loss_weights: Mapping[str, float]) -> dict[str, float]:
    """Means over the predictions of each loss, and their weighted sum `loss`.

    Args:
      totals: by the name of the loss; `mlm` becomes `mlm_loss` and `mlm_accuracy`.
      loss_weights: of each loss in `loss`; others are reported only.
    """
    figures = {"loss": 0.0}
    for name, (loss, metrics, weight) in totals.items():
        number = max(float(weight), 1.0)
        figures[f"{name}_loss"] = float(loss) / number
        for metric, value in metrics.items():
            figures[f"{name}_{metric}"] = float(value) / number
        figures["loss"] += loss_weights.get(name, 0.0) * figures[f"{name}_loss"]
    return figures


class Writers:
    """Writes each record to metrics.jsonl, TensorBoard and the console."""

    def __init__(
        self, workdir: Path, total_steps: int, first_step: int, tracker: Tracker | None = None
    ):
        """Continue after `first_step`: drops what an interrupted run wrote after it.

        `found` has what was there, dropped lines included.
        """
        path = workdir / FILE
        self.found = [content for _, content in _lines(path)]
        _keep_until(path, first_step)
        self._lines: TextIO = path.open("a", buffering=1)
        # Events are written here because tensorboard's own writer imports TensorFlow.
        events = workdir / "tensorboard" / f"events.out.tfevents.{time.time_ns()}.bert_jax"
        events.parent.mkdir(exist_ok=True)
        self._tensorboard = RecordWriter(events.open("wb"))
        self._add_event(file_version="brain.Event:2")
        restart = SessionLog(status=SessionLog.START)
        self._add_event(step=first_step + 1, session_log=restart)
        phases = [line for line in self.found if line.get("event") == "phase"]
        begun = [line.get("index", 0) for line in phases if line["step"] <= first_step]
        self._console = Console(total_steps, first_step, max(begun, default=0))
        self._tracker = tracker

    def event(self, step: int, name: str, fields: Mapping[str, Any]) -> None:
        """Write the event `name` (one of `EVENTS`), which happened after `step` updates."""
        if name not in EVENTS:
            raise ValueError(f"{name} is not in EVENTS")
        self._write_line({"step": step, "event": name, **fields})
        if name == "phase":
            self._console.begin_phase(fields.get("index", 0))

    def write(self, step: int, split: str, figures: Figures) -> None:
        """Write the figures of `split` ("train" or an evaluation split) at `step`."""
        self._write_line({"step": step, "split": split, **figures})
        by_tag = {
            f"{split}/{name}": value
            for name, value in figures.items()
            if isinstance(value, int | float)
        }
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in by_tag.items()]
        self._add_event(step=step, summary=Summary(value=values))
        if self._tracker is not None:
            self._tracker.log(step, by_tag)
        self._console.show(step, split, figures)

    def close(self) -> None:
        self._lines.close()
        self._tensorboard.close()
        self._console.close()
        if self._tracker is not None:
            self._tracker.close()

    def _write_line(self, line: Mapping[str, Any]) -> None:
        print(json.dumps({**line, "time": round(time.time(), 3)}), file=self._lines)

    def _add_event(self, **fields: Any) -> None:
        event = Event(wall_time=time.time(), **fields)
        self._tensorboard.write(event.SerializeToString())
        self._tensorboard.flush()


def read(workdir: Path) -> list[dict]:
    """The records of a run's metrics.jsonl, oldest first; says which lines are damaged."""
    return [line for line in read_all(workdir) if "split" in line]


def read_events(workdir: Path) -> list[dict]:
    """The events of a run's metrics.jsonl, oldest first; says which lines are damaged."""
    return [line for line in read_all(workdir) if "event" in line]


def read_all(workdir: Path) -> list[dict]:
    """The records and events of a run, in the order of writing; says which lines are damaged."""
    return [record for _, record in _lines(workdir / FILE)]


def comparable(workdir: Path) -> list[dict]:
    """The lines that are equal, byte by byte, whether and whenever the run was killed.

    All records and `RUN_EVENTS`, without the `TIME_BASED` fields. Warnings that say that they rest
    on times are left out.
    """
    return [
        {name: value for name, value in line.items() if name not in TIME_BASED}
        for line in read_all(workdir)
        if ("split" in line or line["event"] in RUN_EVENTS) and not line.get("rests_on_times")
    ]


def _lines(path: Path) -> Iterator[tuple[bytes, dict]]:
    """The complete lines of a metrics file, and what each holds.

    What follows the last line end was cut short by a kill, or is just being written. A damaged
    line is left out: it is for reading only, and no reason to stop a run.
    """
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            content = json.loads(line)
            is_whole = isinstance(content["step"], int) and isinstance(
                content["split"] if "split" in content else content["event"], str
            )
        except (ValueError, KeyError, TypeError):
            is_whole = False
        if is_whole:
            yield line + b"\n", content
        else:
            console.say(
                f"Note: {path}, line {number} is damaged and left out of curves and reports: "
                f"{line[:60].decode(errors='replace')!r}"
            )


def _keep_until(path: Path, step: int) -> None:
    """Drop what is after `step`, save lasting events; and lines that are damaged or cut short."""
    if not path.exists():
        return
    kept = [
        line
        for line, content in _lines(path)
        if content["step"] <= step or content.get("event") in LASTING
    ]
    write_text(path, b"".join(kept).decode())
