"""One part of benchmarks/gpu.py, in a process of its own: `gpu_parts.py PART [flags]`.

Prints its results as JSON objects, one a line.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # of the repository

from benchmarks.gpu_checks import equal_bytes, export, tests, trained_digest
from benchmarks.gpu_speed import steps, train

FLAGS = flags.FLAGS
RUNS = {
    "tests": tests,
    "export": export,
    "bytes": equal_bytes,
    "digest": trained_digest,
    "steps": steps,
    "train": train,
}


def main(arguments: Sequence[str]) -> None:
    """Print the rows of the part that is named."""
    from bert_jax.common import platforms

    platforms.hide_missing_tpu()
    for row in RUNS[arguments[1]]():
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("store", None, "Token store of the training run")
    flags.DEFINE_float("seconds", 120.0, "For the training run")
    flags.DEFINE_float("tokens_per_second", 500_000.0, "That the training run is expected to reach")
    flags.DEFINE_bool("tiny", False, "A small form")
    app.run(main)
