"""How fast a run stops and starts again: `python benchmarks/reliability.py [--part=NAME]`.

Runs BERT-tiny on the text of docs/, as a user would start it.

* `stop`: seconds from SIGTERM until the run is saved and its process gone
* `resume`: seconds from the command until the step is compiled, at step 0 and at step 1,000,000
* `processes`: tokens a second of two processes as a share of one on the same cores, in turns
"""

import argparse
import dataclasses
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp

from bert_jax.config import load_config, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.model import ModelConfig
from bert_jax.run import metrics
from bert_jax.run.workdir import CHECKPOINTS
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import identity
from bert_jax.training import sharding
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.step import compile_steps

ROOT = Path(__file__).parent.parent
FAR = 1_000_000
FIELDS = {
    "total_steps": 2 * FAR,
    "log_every": 5,
    "eval_every": 10 * FAR,
    "checkpoint_every": 10 * FAR,
    "tokenizer.vocab_size": 2048,
    "corpus.source": "text:docs/*.md",
}
TURNS, RECORDS = 3, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("stop", "resume", "processes"))
    part = parser.parse_args().part
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        saved = stop(place / "run")
        if part in (None, "stop"):
            print(f"SIGTERM to saved and ended: {saved:.1f} s")
        if part in (None, "resume"):
            print(f"command to compiled step, step 0: {until_compiled(place / 'new'):.1f} s")
            move_to(place / "run", FAR)
            print(f"command to compiled step, step {FAR:,}: {until_compiled(place / 'run'):.1f} s")
        if part in (None, "processes"):
            ratios = [speed(place / "two", 2) / speed(place / "one", 1) for _ in range(TURNS)]
            print(
                f"two processes to one: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; ", end=""
            )
            print(f"median {statistics.median(ratios):.2f}")


def start(workdir: Path, processes: int = 0) -> subprocess.Popen[str]:
    """The train command; `processes` of launch/local.sh, or 0: without it."""
    launcher = ["launch/local.sh", str(processes)] if processes else [sys.executable, "-m"]
    program = [] if processes else ["bert_jax.train"]
    fields = FIELDS | {"corpus.directory": str(workdir.parent / "corpus")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        [*launcher, *program, "--config=configs/bert.py:tiny", f"--workdir={workdir}"]
        + [f"--config.{name}={value}" for name, value in fields.items()],
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise SystemExit(f"the run ended before it said {text!r}")


def end(process: subprocess.Popen[str]) -> float:
    """Seconds from SIGTERM to the end."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return time.monotonic() - began


def stop(workdir: Path) -> float:
    process = start(workdir)
    wait_for(process, "step 10/")
    return end(process)


def until_compiled(workdir: Path) -> float:
    began = time.monotonic()
    process = start(workdir)
    wait_for(process, "Compiling the step")
    seconds = time.monotonic() - began
    process.kill()
    process.communicate()
    return seconds


def speed(workdir: Path, processes: int) -> float:
    """Tokens a second, the median of some records."""
    process = start(workdir, processes)
    wait_for(process, f"step {FIELDS['log_every'] * (RECORDS + 1)}/")
    end(process)
    records = [r["tokens_per_second"] for r in metrics.read(workdir) if "tokens_per_second" in r]
    return statistics.median(records[-RECORDS:])


def move_to(workdir: Path, step: int) -> None:
    """Save the newest state of the run again, as that of `step`."""
    config = load_config(str(ROOT / "configs" / "bert.py"), "tiny")
    for name, value in FIELDS.items():
        group, _, field = name.rpartition(".")
        (config[group] if group else config)[field] = value
    settings = parse(config)
    store = TokenStore.open(workdir.parent / "corpus")
    mesh = sharding.make_mesh(settings.training.mesh)
    model: ModelConfig = settings.models(store.vocabulary.size)[0]
    checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=1)
    newest = checkpoints.latest_step()
    assert newest is not None
    abstract_state = compile_steps(settings.training, model, mesh).abstract_state
    state = checkpoints.restore(newest, abstract_state)
    moved = dataclasses.replace(state, step=jnp.asarray(step, state.step.dtype))
    checkpoints.save(moved, identity(store, TrainBatches(store, settings.stream), step))
    checkpoints.close()


if __name__ == "__main__":
    main()
