"""Runs of a tiny encoder: in this process, and of the command as a user starts it."""

import contextlib
import io
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from pydoc_data import topics
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from bert_jax import train as train_module
from bert_jax.config import load_config
from bert_jax.run import metrics

ROOT = Path(__file__).parent.parent

FIELDS = {
    "total_steps": 20,
    "warmup_steps": 4,
    "global_batch_size": 8,
    "log_every": 1,
    "eval_every": 10,
    "checkpoint_every": 5,
    "tokenizer.vocab_size": 300,
    "corpus.heldout_fraction": 0.2,
    "corpus.workers": 1,
    "model.hidden_size": 32,
    "model.intermediate_size": 64,
    "model.max_position_embeddings": 64,
}
LENGTHS = (32, 64)  # tokens a row in the two phases


def tiny(source: str, **fields: object) -> ConfigDict:
    """The config of a tiny run; `fields` as in `total_steps=5`."""
    config = load_config(str(ROOT / "configs" / "bert.py"), "tiny")
    for name, value in {**FIELDS, "corpus.source": source, **fields}.items():
        group, _, field = name.rpartition(".")
        (config[group] if group else config)[field] = value
    for phase, length in zip(config.stream.phases, LENGTHS, strict=True):
        phase["sequence_length"] = length
    return config


def command(source: str, *flags, launcher=(sys.executable, "-m", "bert_jax.train")):
    """The command that trains `tiny(source)`."""
    fields = {**FIELDS, "corpus.source": source} | {
        f"stream.phases[{phase}].sequence_length": length for phase, length in enumerate(LENGTHS)
    }
    values = [f"--config.{name}={value}" for name, value in fields.items()]
    return [*launcher, "--config=configs/bert.py:tiny", *values, *map(str, flags)]


class Run(NamedTuple):
    workdir: Path
    said: str  # on the standard output
    logged: str  # by JAX: what it compiled


def train(config: ConfigDict, workdir: Path, **arguments) -> Run:
    """A run in this process, with its eight devices; reads programs that an earlier one compiled.

    The programs are kept in the directory that commands started by the tests use as well.
    """
    said, logged = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(logged)
    logging.getLogger("jax").addHandler(handler)
    try:
        with jax.log_compiles(), contextlib.redirect_stdout(said), kept_programs():
            train_module.train(config, workdir, **arguments)
    finally:
        logging.getLogger("jax").removeHandler(handler)
    return Run(workdir, said.getvalue(), logged.getvalue())


@contextlib.contextmanager
def kept_programs():
    """Keep compiled programs, for this block alone: other tests count what is compiled."""
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        "jax_compilation_cache_dir": os.environ["JAX_COMPILATION_CACHE_DIR"],
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    compilation_cache.reset_cache()
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def launched(source: str, *flags, processes: int, expect: int = 0) -> str:
    """What a run of several processes with one device each prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    xla = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    run = subprocess.run(
        command(source, *flags, launcher=("launch/local.sh", str(processes))),
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": " ".join(xla), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert run.returncode == expect, run.stdout + run.stderr
    return run.stdout + run.stderr


def two_processes(program, *arguments, expect=0):
    """What two processes with one device each print, each running the Python code `program`."""
    xla = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    address = {"JAX_COORDINATOR_ADDRESS": f"localhost:{_free_port()}", "JAX_NUM_PROCESSES": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | address | {"JAX_PROCESS_ID": str(i), "XLA_FLAGS": " ".join(xla)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [expect] * 2, said
    return "".join(out + errors for out, errors in said)


def _free_port():
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def records(workdir):
    """The records without the timings."""
    return [line for line in metrics.comparable(workdir) if "split" in line]


def whole_state(workdir, step=20):
    """Step, parameters and optimizer state of a checkpoint as saved."""
    import orbax.checkpoint as ocp

    path = workdir / "checkpoints" / str(step) / "default"
    return ocp.StandardCheckpointer().restore(path.absolute())


def assert_same_bytes(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        name = jax.tree_util.keystr(path)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


def as_document(page):
    """One paragraph a line, none of them empty, so that the page stays one document."""
    paragraphs = (" ".join(part.split()) for part in page.split("\n\n"))
    return "\n".join(filter(None, paragraphs))


def pages():
    """Some pages of real English, Python's own language reference, as documents."""
    names = sorted(topics.topics)[:30]
    return "\n\n".join(as_document(topics.topics[name]) for name in names)
