"""Kill a tiny run 100 times with SIGKILL: `python benchmarks/soak.py [--kills=100] [--seed=0]`.

The run is trained once without interruption. Then it is started over and over, each time in a
process of its own, which gets SIGKILL at a random moment of a stage: preparing the corpus,
compiling, stepping, evaluating, saving, exporting; the stages take turns. Whenever a run has
finished all the same, it is compared with the first one, byte by byte: parameters, optimizer state,
`metrics.jsonl` (as `bert_jax.run.metrics.comparable` defines it), the next batches and the exported
folder. Then the next one begins in an empty directory.

The processes are forked after the imports, which take most of the time of such a small run. Ends
with an error at the first difference, and where a run cannot go on.
"""

import collections
import functools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
sys.path.insert(0, str(Path(__file__).parents[1]))

import absl.logging
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import app, flags
from ml_collections import ConfigDict

from bert_jax import train
from bert_jax.config import load_config, parse
from bert_jax.corpus.store import MANIFEST, TokenStore
from bert_jax.run import metrics, workdir
from bert_jax.stream import pipeline  # noqa: F401 (imported before the forks)
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.rows import digest

FLAGS = flags.FLAGS
flags.DEFINE_integer("kills", 100, "SIGKILLs to survive")
flags.DEFINE_integer("seed", 0, "Of the moments")

ROOT = Path(__file__).parents[1]
LENGTHS = (32, 64)  # tokens a row in the two phases
STEPS, EVALUATE, SAVE = 24, 4, 3
# The longest that a process may go on in its stage before it is killed, in seconds.
STAGES = {
    "preparing": 0.5,
    "compiling": 3.0,
    "stepping": 0.3,
    "evaluating": 0.2,
    "saving": 0.1,
    "exporting": 2.0,
}


def tiny(corpus: Path) -> ConfigDict:
    """BERT in two phases, with a phase border between checkpoints and dropout."""
    config = load_config(str(ROOT / "configs" / "bert.py"), "tiny")
    config.total_steps, config.warmup_steps, config.global_batch_size = STEPS, 4, 8
    config.log_every, config.eval_every, config.checkpoint_every = 1, EVALUATE, SAVE
    config.corpus.source = f"text:{corpus}"
    config.corpus.heldout_fraction = 0.2
    config.corpus.workers = 1
    config.tokenizer.vocab_size = 300
    config.model.update(hidden_size=32, intermediate_size=64, max_position_embeddings=64)
    for phase, length in zip(config.stream.phases, LENGTHS, strict=True):
        phase["sequence_length"] = length
    return config


def start(config: ConfigDict, directory: Path, said: Path) -> int:
    """Train in a process of its own, which writes what it prints to `said`; returns its id."""
    said.write_text("")
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        output = os.open(said, os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        jax.config.update("jax_compilation_cache_dir", str(said.parent / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        train.train(config, directory)
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def stage_of(directory: Path, said: Path) -> str:
    """What the process is doing, by what it has written and printed."""
    checkpoints = directory / workdir.CHECKPOINTS
    if not directory.exists():
        return "starting"
    if not (directory / "corpus" / MANIFEST).exists():
        return "preparing"
    if any(not path.name.isdigit() for path in checkpoints.glob("*")):
        return "saving"
    lines = said.read_text().splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    if (checkpoints / str(STEPS)).exists():
        return "exporting"
    if not steps or lines[-1].startswith("Compiling"):
        return "compiling"
    number, split = int(steps[-1].split()[1].split("/")[0]), steps[-1].split()[2]
    return "evaluating" if split == "train" and number % EVALUATE == 0 else "stepping"


def kill_in(stage: str, pid: int, current: Callable[[], str], draw: random.Random) -> str | None:
    """Kill the process at a random moment of `stage`; None: it ended before.

    Returns the stage that it was in.
    """
    deadline = None
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit("the run stopped with an error")
            return None
        now = current()
        if deadline is None and now == stage:
            deadline = time.monotonic() + draw.uniform(0, STAGES[stage])
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return now
        time.sleep(0.002)


def result(config: ConfigDict, directory: Path) -> dict[str, bytes]:
    """Everything that must be equal, by name."""
    settings = parse(config)
    path = directory / workdir.CHECKPOINTS / str(STEPS) / "default"
    state = ocp.StandardCheckpointer().restore(path.absolute())
    found = {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree.leaves_with_path(state)
    }
    for index, line in enumerate(metrics.comparable(directory)):
        found[f"metrics.jsonl, line {index}"] = json.dumps(line).encode()
    stream = TrainBatches(TokenStore.open(settings.store_directory(directory)), settings.stream)
    for step in range(STEPS):
        found[f"batch {step}"] = digest(stream.batch(step)).encode()
    for file in sorted((directory / workdir.HUGGING_FACE).iterdir()):
        found[f"hf/{file.name}"] = file.read_bytes()
    return found


def expect_equal(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """Exit with the names that differ."""
    different = [
        name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)
    ]
    if different:
        raise SystemExit(f"different: {', '.join(sorted(different)[:10])}")


def main(argv: list[str]) -> None:
    del argv
    absl.logging.set_verbosity(absl.logging.WARNING)
    began, draw = time.monotonic(), random.Random(FLAGS.seed)
    kills: collections.Counter[str] = collections.Counter()
    runs = 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        corpus, said = place / "corpus.txt", place / "said.txt"
        corpus.write_text("\n\n".join(documents()))
        config = tiny(corpus)
        pid = start(config, place / "unbroken", said)
        if os.waitpid(pid, 0)[1]:
            raise SystemExit(f"the first run failed:\n{said.read_text()}")
        preparing, *later = STAGES
        turn = 0  # of the later stages; each run is killed once while it prepares
        while kills.total() < FLAGS.kills:
            directory, stage = place / f"run{runs}", preparing
            while True:
                pid = start(config, directory, said)
                killed = kill_in(stage, pid, functools.partial(stage_of, directory, said), draw)
                stage = later[turn % len(later)]
                turn += 1
                if killed is None:
                    break
                kills[killed] += 1
                print(f"{kills.total()} kills, {runs} runs finished: {dict(kills)}", flush=True)
                if kills.total() >= FLAGS.kills:  # let it end
                    if os.waitpid(start(config, directory, said), 0)[1]:
                        raise SystemExit(f"the run stopped:\n{said.read_text()}")
                    break
            compare_in_a_process(config, directory, place / "unbroken")
            runs += 1
    minutes = (time.monotonic() - began) / 60
    print(
        f"survived {kills.total()} of {kills.total()} kills ({dict(kills)}) in {runs} runs, all "
        f"with the bytes of the unbroken one; {minutes:.0f} minutes"
    )


def compare_in_a_process(config: ConfigDict, directory: Path, unbroken: Path) -> None:
    """Compare in a fork, so that this process never starts JAX's threads."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            expect_equal(result(config, directory), result(config, unbroken))
            status = 0
        except SystemExit as error:
            print(error, flush=True)
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("a run differs from the unbroken one")


def documents() -> list[str]:
    """Python's language reference, a page a document."""
    from pydoc_data import topics

    pages = [topics.topics[name] for name in sorted(topics.topics)[:30]]
    return ["\n".join(" ".join(part.split()) for part in page.split("\n\n")) for page in pages]


if __name__ == "__main__":
    app.run(main)
