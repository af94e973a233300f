"""Seconds to compile the training step, layers unrolled and scanned; and to read it again.

    python benchmarks/compile_times.py --config=configs/bert.py:large [--json=FILE]

Each figure is of a process of its own; the first start has an empty compile cache, the second one
reads what the first has kept. The step is compiled for this machine's devices and is not run.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
from absl import flags

from bert_jax.common import command_line, compile_cache
from bert_jax.config import parse
from bert_jax.performance.machine import load, machine, versions
from bert_jax.plan import compiled
from bert_jax.training import sharding
from bert_jax.training.preflight import vocab_size

FLAGS = flags.FLAGS
LAYERS = ("unrolled", "scanned")


def compile_once() -> None:
    """Print the seconds of tracing and compiling, or reading, in this process."""
    settings = parse(command_line.config())
    compile_cache.use(FLAGS.compile_cache)
    mesh = sharding.make_mesh(settings.training.mesh)
    model = settings.models(vocab_size(settings.corpus.tokenizer))[0]
    begin = time.perf_counter()
    compiled(settings, mesh, settings.stream.phases[0], model)
    print(time.perf_counter() - begin)


def main() -> None:
    """Start the processes one after another, and print the table."""
    if FLAGS.once:
        return compile_once()
    command = [sys.executable, __file__, *sys.argv[1:], "--once"]
    found: dict[str, list[float]] = {}
    print(f"{machine()}, load {load()}; {versions(('jax', 'jaxlib', 'flax'))}")
    print(f"{'layers':12}{'first start':>14}{'second start':>14}")
    for layers in LAYERS:
        with tempfile.TemporaryDirectory() as cache:
            own = [*command, f"--config.model.layers={layers}", f"--compile_cache={cache}"]
            runs = [subprocess.run(own, check=True, capture_output=True, text=True) for _ in "12"]
        first, second = found[layers] = [float(run.stdout.split()[-1]) for run in runs]
        print(f"{layers:12}{first:12.1f} s{second:12.1f} s", flush=True)
    if FLAGS.json:
        values = {"machine": machine(), "load": load(), "jax": jax.__version__, "seconds": found}
        Path(FLAGS.json).write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    command_line.define_config()
    command_line.define_compile_cache()
    flags.DEFINE_bool("once", False, "(internal) compile in this process")
    flags.DEFINE_string("json", None, "Write the figures into this file, too")
    command_line.run(main)
