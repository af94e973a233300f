"""Does a run in bfloat16 follow the loss curve of the same run in float32?

    python benchmarks/precision.py --config=configs/quickstart.py [--steps=300] [--json=FILE]

Trains twice on one token store, with the same batches, masks and dropout, and compares the losses
on held-out documents, which must differ by less than TOLERANCE at every evaluation.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from bert_jax.common import command_line
from bert_jax.common.errors import UserError
from bert_jax.performance.machine import load, machine, versions
from bert_jax.run import metrics

FLAGS = flags.FLAGS
TOLERANCE = 0.05  # nats of held-out loss
TYPES = ("float32", "bfloat16")


def train(config: str, dtype: str, directory: Path) -> dict[int, dict[str, float]]:
    """The records of the held-out evaluations of one run, by step."""
    workdir = directory / dtype
    command = [
        *(sys.executable, "-m", "bert_jax.train", f"--config={config}", f"--workdir={workdir}"),
        f"--config.corpus.directory={directory / 'corpus'}",
        f"--config.model.compute_dtype={dtype}",
        f"--config.total_steps={FLAGS.steps}",
        f"--config.warmup_steps={FLAGS.steps // 10}",
        f"--config.eval_every={FLAGS.steps // 6}",
        "--config.eval_batches=20",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {r["step"]: r for r in metrics.read(workdir) if r["split"] == "heldout"}


def main() -> None:
    """Train both, print the table, and fail where they part."""
    print(f"{machine()}, load {load()}; {versions(('jax', 'jaxlib', 'flax', 'optax'))}")
    config = config_flags.get_config_filename(FLAGS["config"])
    with tempfile.TemporaryDirectory() as directory:
        runs = [train(config, dtype, Path(directory)) for dtype in TYPES]
    print(f"{'step':>6}{'float32':>10}{'bfloat16':>10}{'difference':>12}   held-out loss")
    rows = []
    for step in runs[0]:
        one, other = (run[step]["mlm_loss"] for run in runs)
        rows.append({"step": step, "float32": one, "bfloat16": other})
        print(f"{step:6}{one:10.4f}{other:10.4f}{other - one:+12.4f}")
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps({"tolerance": TOLERANCE, "rows": rows}) + "\n")
    if worst := [row for row in rows if abs(row["bfloat16"] - row["float32"]) >= TOLERANCE]:
        raise UserError(f"the curves part by {TOLERANCE} nats or more: {worst}")


if __name__ == "__main__":
    command_line.define_config()
    flags.DEFINE_integer("steps", 300, "Of each run")
    flags.DEFINE_string("json", None, "Write the figures into this file, too")
    command_line.run(main)
