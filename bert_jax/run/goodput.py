"""Goodput: where the time of a run went, over all processes that computed it one after another.

A process counts its seconds by kind and records the sums so far at every checkpoint (the event
`goodput` of `metrics.jsonl`). What it did after the last checkpoint that survives is lost work,
whatever it was. So the sums of all processes, the lost work and the time between a process's last
line and the next start make up the whole time since the first start.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

KINDS = {
    "starting": "imports, checks, the newest checkpoint",
    "waiting": "for the other processes of the run to start",
    "preparing": "the corpus",
    "compiling": "the step and its first execution",
    "steps": "training",
    "input": "waiting for the next batch",
    "evaluation": "of held-out text, and its compilation",
    "saving": "training stood still for a checkpoint",
}
LOST, DOWN = "lost", "down"  # work that was made again; no process was there


class Clock:
    """The seconds of this process by kind; at any time it spends one kind, `steps` by default."""

    def __init__(self, began: float | None = None):
        """Spends `starting` since `began` (`time.time()`; None: now)."""
        self.began = time.time() if began is None else began
        self._spent = dict.fromkeys(KINDS, 0.0)
        self._kind = "starting"
        self._since = time.monotonic() - (time.time() - self.began)

    @property
    def kind(self) -> str:
        """What is spent now."""
        return self._kind

    def switch(self, kind: str) -> str:
        """Spend `kind` from now on; returns what was spent before."""
        now = time.monotonic()
        self._spent[self._kind] += now - self._since
        before, self._kind, self._since = self._kind, kind, now
        return before

    @contextlib.contextmanager
    def spending(self, kind: str) -> Iterator[None]:
        """Spend `kind` in this block."""
        before = self.switch(kind)
        try:
            yield
        finally:
            self.switch(before)

    def seconds(self) -> dict[str, float]:
        """The seconds until now of each kind that was spent."""
        self.switch(self._kind)
        return {kind: round(spent, 3) for kind, spent in self._spent.items() if spent}


def process_start() -> float:
    """When this process was started, as `time.time()`; the time now where that is unknown."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.time()
    return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


def before_resume(lines: Sequence[dict[str, Any]], step: int, began: float) -> dict[str, Any]:
    """What a process finds that continues at `step`: the fields of its event `resume`.

    Args:
      lines: records and events that are there, in the order of writing.
      step: of the checkpoint.
      began: when this process started.
    """
    starts = [index for index, line in enumerate(lines) if line.get("event") == "start"]
    if not starts:
        return {"lost_steps": 0, "lost_seconds": 0.0, "down_seconds": 0.0}
    before = lines[starts[-1] :]
    last = max((line["step"] for line in before if line.get("split") == "train"), default=step)
    kept_until = max(
        [line["time"] for line in before if line.get("event") == "goodput" and line["step"] <= step]
        or [before[0]["started"]]
    )
    end = before[-1]["time"]
    return {
        "lost_steps": max(last - step, 0),
        "lost_seconds": round(max(end - kept_until, 0.0), 3),
        "down_seconds": round(max(began - end, 0.0), 3),
    }


def total(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of the whole run by kind, `lost` and `down` included, the largest first.

    Args:
      events: of the run, in the order of writing.
    """
    seconds: dict[str, float] = {}
    of_process: dict[str, float] = {}

    def add(spent: dict[str, float]) -> None:
        for kind, value in spent.items():
            seconds[kind] = seconds.get(kind, 0.0) + value

    for event in events:
        if event["event"] == "start":
            add(of_process)
            of_process = {}
        elif event["event"] == "goodput":
            of_process = {kind: event[kind] for kind in KINDS if kind in event}
        elif event["event"] == "resume":
            add({LOST: event["lost_seconds"], DOWN: event["down_seconds"]})
    add(of_process)
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return {kind: value for kind, value in ordered if value}


def describe(seconds: dict[str, float]) -> str:
    """`steps 80.1%, compiling 12.0%, ... of 35 s`, without what took less than half a percent."""
    whole = sum(seconds.values())
    shares = ", ".join(
        f"{kind} {value / whole:.1%}" for kind, value in seconds.items() if value >= 0.005 * whole
    )
    return f"{shares} of {whole:,.0f} s"
