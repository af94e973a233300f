"""Everything to be known on a GPU, in under eight minutes: `python benchmarks/gpu.py`.

    python benchmarks/gpu.py [--store=DIR] [--json=gpu.json] [--seconds=460] [--parts=steps,train]

Needs neither TensorFlow nor an installed package (run it from the repository's root). Parts:

    tests   attention and matrix products against float64
    export  our logits on the GPU against those of `transformers` on the CPU
    bytes   whether two processes that train 50 steps each reach the same bytes, with and without
            deterministic operations
    steps   time, tokens/s, MFU and memory of a step, beside `torch.compile`d `transformers`
    train   a training run in the time that is left, on the token store --store, which
            `python -m bert_jax.prepare` makes elsewhere beforehand

Each part is a process with a time limit: one that fails, crashes or hangs does not stop the others.
Results are printed and written to the JSON file as they come. --tiny runs small forms of all parts,
on a CPU too.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parent.parent
PARTS = Path(__file__).with_name("gpu_parts.py")
CHECKS = ("tests", "export", "bytes")  # they measure no time, so they run at once
LIMITS = {"tests": 0.28, "export": 0.28, "bytes": 0.28, "steps": 0.55}  # shares of --seconds
LEAST = 30  # seconds that a training run needs to be worth its start
NAMES = (*CHECKS, "steps", "train")


class Report:
    """The results so far, printed and written when one comes; parts add to it from threads."""

    def __init__(self, path: Path | None):
        self.results: dict[str, Any] = {}
        self._path = path
        self._lock = threading.Lock()

    def add(self, part: str, row: dict[str, Any]) -> None:
        """A row of a part's results."""
        cells = (f"{name} {_text(value)}" for name, value in row.items())
        with self._lock:
            self._of(part)["rows"].append(row)
            self._show(f"{part:8}" + "  ".join(cells))

    def end(self, part: str, status: str, seconds: float) -> None:
        """How a part has ended: `ok`, or what went wrong."""
        with self._lock:
            self._of(part).update(status=status, seconds=round(seconds, 1))
            self._show(f"{part:8}{status} after {seconds:.0f} s")

    def _of(self, part: str) -> dict[str, Any]:
        return self.results.setdefault(part, {"rows": []})

    def _show(self, line: str) -> None:
        print(line, flush=True)
        if self._path:
            unfinished = self._path.with_name(self._path.name + ".tmp")
            unfinished.write_text(json.dumps(self.results, indent=1) + "\n")
            os.replace(unfinished, self._path)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "-" if value is None else str(value)


@dataclasses.dataclass(frozen=True)
class Part:
    """A part's process: its name, its flags, and how many seconds it may take."""

    name: str
    flags: Sequence[str]
    limit: float

    def run(self, report: Report) -> None:
        """Run it, and add the rows that it prints (JSON, one a line) as they come."""
        begin = time.monotonic()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the memory
        }
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [sys.executable, str(PARTS), self.name, *self.flags],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # it ends with all processes that it has started
            )
            timer = threading.Timer(self.limit, os.killpg, (process.pid, signal.SIGKILL))
            timer.start()
            assert process.stdout
            for line in process.stdout:
                if line.startswith("{"):
                    report.add(self.name, json.loads(line))
            code = process.wait()
            timer.cancel()
            seconds = time.monotonic() - begin
            errors.seek(0)
            said = errors.read().splitlines()
        if code == 0:
            status = "ok"
        elif seconds >= self.limit:
            status = "stopped: out of time"
        else:
            status = f"failed with status {code}"
            print("\n".join(f"  {line}" for line in said[-15:]), flush=True)
        report.end(self.name, status, seconds)


def run_together(parts: Sequence[Part], report: Report) -> None:
    """Run parts at the same time and wait for all of them."""
    threads = [threading.Thread(target=part.run, args=(report,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def expected_speed(report: Report) -> list[str]:
    """The flag that gives the training run its measured speed, if it was measured."""
    rows = report.results.get("steps", {}).get("rows", [])
    ours = [row for row in rows if (row["shape"], row["side"]) == ("ettin-68m", "bert_jax")]
    speeds = [row["tokens_per_second"] for row in ours if "tokens_per_second" in row]
    return [f"--tokens_per_second={speed}" for speed in speeds]


def main(_: Sequence[str]) -> int:
    """Run the parts; the status is 0 if all have ended well and nothing that they check failed."""
    begin = time.monotonic()
    report = Report(Path(FLAGS.json) if FLAGS.json else None)
    common = ["--tiny"] if FLAGS.tiny else []

    def left() -> float:
        return FLAGS.seconds - (time.monotonic() - begin)

    def limit(name: str) -> float:
        return min(LIMITS[name] * FLAGS.seconds, left())

    named = [name for name in FLAGS.parts if name in CHECKS]
    run_together([Part(name, common, limit(name)) for name in named], report)
    if "steps" in FLAGS.parts:
        Part("steps", common, limit("steps")).run(report)
    if "train" in FLAGS.parts:
        if not FLAGS.store:
            report.end("train", "left out: it needs --store", 0.0)
        elif left() < LEAST:
            report.end("train", "left out: no time", 0.0)
        else:
            store, seconds = Path(FLAGS.store).resolve(), left() - LEAST / 2
            given = [f"--store={store}", f"--seconds={seconds:.0f}", *expected_speed(report)]
            Part("train", [*common, *given], left()).run(report)
    found = report.results.values()
    failed = [row for part in found for row in part["rows"] if row.get("ok") is False]
    print(f"{time.monotonic() - begin:.0f} s; {len(failed)} checks failed", flush=True)
    is_good = not failed and all(part["status"].startswith(("ok", "left out")) for part in found)
    return 0 if is_good else 1


if __name__ == "__main__":
    flags.DEFINE_string("store", None, "Token store to train on; none: no training run")
    flags.DEFINE_string("json", "gpu.json", "Where the results are written as they come")
    flags.DEFINE_float("seconds", 460.0, "For everything")
    flags.DEFINE_list("parts", list(NAMES), "Which parts to run")
    flags.DEFINE_bool("tiny", False, "Small forms of all parts, for a test of this file")
    app.run(main)
