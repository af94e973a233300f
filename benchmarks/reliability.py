"""How fast a run stops, saves and starts again: `python benchmarks/reliability.py [--part=NAME]`.

Trains on the text of docs/, as a user would start it, on batches of 32 rows. Parts:

    stop       BERT-tiny: seconds from SIGTERM until the run is saved and its process gone
    resume     BERT-tiny: seconds from the command until the first new step is made, compiling left
               out, at step 0 and at step 1,000,000
    save       how long a save of BERT-base with AdamW stops training, beside one step of 8 rows
    processes  the quickstart's model: tokens a second of two processes as a share of one on the
               same cores, in turns, with 32 and with 128 rows
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

import jax
import jax.numpy as jnp

from bert_jax.common import platforms
from bert_jax.config import load_config, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.performance.machine import machine
from bert_jax.performance.synthetic import random_batches
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
    "budget": "",
    "global_batch_size": 32,
    "eval_every": 10 * FAR,
    "checkpoint_every": 10 * FAR,
    "tokenizer.vocab_size": 2048,
    "corpus.source": "text:docs/*.md",
}
TINY, QUICKSTART = "configs/bert.py:tiny", "configs/quickstart.py"
BATCHES = (32, 128)  # rows of a batch, while the speed of processes is measured
LOG_EVERY = 5  # steps, then
TURNS, RECORDS = 2, 5
ROWS, VOCABULARY = 8, 30_522


def main() -> None:
    parts = {"stop": stop, "resume": resume, "save": save, "processes": processes}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=parts)
    chosen = parser.parse_args().part
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f} before", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        for part in [chosen] if chosen else parts:
            parts[part](Path(directory))
    print(f"load average {os.getloadavg()[0]:.1f} at the end")


def start(
    workdir: Path,
    processes: int = 1,
    log_every: int = 1,
    first: int = 0,
    config: str = TINY,
    rows: int = 32,
) -> subprocess.Popen[str]:
    """The train command, once it has printed the step after `first`."""
    launcher = ["launch/local.sh", str(processes)]
    program = [sys.executable, "-m", "bert_jax.train"] if processes == 1 else launcher
    here = workdir.parent
    fields = FIELDS | {
        "corpus.directory": str(corpus_of(here, config)),
        "log_every": log_every,
        "global_batch_size": rows,
    }
    process = subprocess.Popen(
        [*program, f"--config={config}", f"--workdir={workdir}"]
        + [f"--compile_cache={here / 'compiled'}"]
        + [f"--config.{name}={value}" for name, value in fields.items()],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    wait_for(process, f"step {first + log_every}/")
    return process


def corpus_of(place: Path, config: str) -> Path:
    """The token store of all runs of a config."""
    return place / f"corpus-{Path(config).stem}"


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line.replace(",", ""):
            return
    raise SystemExit(f"the run ended before it said {text!r}")


def end(process: subprocess.Popen[str]) -> float:
    """Seconds from SIGTERM to the end."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return time.monotonic() - began


def stop(place: Path) -> None:
    print(f"SIGTERM to saved and ended: {end(start(place / 'run')):.1f} s", flush=True)


def resume(place: Path) -> None:
    run = place / "run"
    if not run.exists():
        end(start(run))  # prepares the corpus too
    show_first_step(place / "new", 0)
    move_to(run, FAR)
    show_first_step(run, FAR)


def show_first_step(workdir: Path, first: int) -> None:
    began = time.monotonic()
    process = start(workdir, first=first)
    seconds = time.monotonic() - began
    end(process)
    spent = [e for e in metrics.read_events(workdir) if e["event"] == "goodput"][-1]
    print(
        f"command to the first new step, from step {first:,}: {seconds - spent['compiling']:.1f} s "
        f"and {spent['compiling']:.1f} s of compiling",
        flush=True,
    )


def move_to(workdir: Path, step: int) -> None:
    """Save the newest state of the run again, as that of `step`."""
    config = load_config(str(ROOT / "configs" / "bert.py"), "tiny")
    for name, value in FIELDS.items():
        group, _, field = name.rpartition(".")
        (config[group] if group else config)[field] = value
    settings = parse(config)
    store = TokenStore.open(corpus_of(workdir.parent, TINY))
    mesh = sharding.make_mesh(settings.training.mesh)
    model = settings.models(store.vocabulary.size)[0]
    checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=1)
    newest = checkpoints.latest_step()
    assert newest is not None
    steps = compile_steps(settings.training, model, mesh)
    state = checkpoints.restore(newest, steps.abstract_state)
    moved = dataclasses.replace(state, step=jnp.asarray(step, state.step.dtype))
    checkpoints.save(moved, identity(store, TrainBatches(store, settings.stream), step))
    checkpoints.close()


def save(place: Path) -> None:
    config = load_config(str(ROOT / "configs" / "bert.py"), "base")
    config.global_batch_size = ROWS
    settings = parse(config)
    mesh = sharding.make_mesh(settings.training.mesh)
    steps = compile_steps(settings.training, settings.models(VOCABULARY)[0], mesh)
    phase = settings.stream.phases[0]
    [rows] = random_batches(settings.objective, phase, VOCABULARY, 1)
    batch = sharding.place_batch(mesh, rows, ROWS)
    state, _ = jax.block_until_ready(steps.train(steps.init(), batch))
    checkpoints = Checkpoints(place / "base", keep=1)
    checkpoints.save(state, {})  # compiles the check for NaN
    checkpoints.wait()
    began = time.monotonic()
    state, _ = jax.block_until_ready(steps.train(state, batch))
    of_step = time.monotonic() - began
    began = time.monotonic()
    checkpoints.save(state, {})
    blocked = time.monotonic() - began
    checkpoints.close()
    print(
        f"a save of BERT-base stops training for {blocked:.2f} s; a step of {ROWS} rows of "
        f"{phase.sequence_length} tokens takes {of_step:.2f} s",
        flush=True,
    )


def processes(place: Path) -> None:
    for rows in BATCHES:
        ratios = [
            speed(place / f"two-{rows}-{turn}", 2, rows)
            / speed(place / f"one-{rows}-{turn}", 1, rows)
            for turn in range(TURNS)
        ]
        listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"two processes to one, tokens a second, {rows} rows: {listed}", flush=True)


def speed(workdir: Path, processes: int, rows: int) -> float:
    """Tokens a second, the median of some records."""
    process = start(workdir, processes, LOG_EVERY, config=QUICKSTART, rows=rows)
    wait_for(process, f"step {LOG_EVERY * (RECORDS + 1)}/")
    end(process)
    records = [r["tokens_per_second"] for r in metrics.read(workdir) if "tokens_per_second" in r]
    return statistics.median(records[-RECORDS:])


if __name__ == "__main__":
    platforms.hide_missing_tpu()
    main()
