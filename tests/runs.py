"""Runs of the train command on a tiny encoder, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path
from pydoc_data import topics

from bert_jax.run import metrics

ROOT = Path(__file__).parent.parent
TIMINGS = ("tokens_per_second", "sequences_per_second", "data_wait_fraction")

TINY = [
    "--config=configs/bert.py:tiny",
    "--config.total_steps=20",
    "--config.warmup_steps=4",
    "--config.global_batch_size=8",
    "--config.log_every=1",
    "--config.eval_every=10",
    "--config.checkpoint_every=5",
    "--config.tokenizer.vocab_size=300",
    "--config.corpus.heldout_fraction=0.2",
    "--config.corpus.workers=1",
    "--config.model.hidden_size=32",
    "--config.model.intermediate_size=64",
    "--config.model.max_position_embeddings=64",
    "--config.stream.phases[0].sequence_length=32",
    "--config.stream.phases[1].sequence_length=64",
]


def command(*flags, launcher=(sys.executable, "-m", "bert_jax.train")):
    return [*launcher, *TINY, *map(str, flags)]


def environment():
    """One device a process, and this virtual environment's python for the launcher."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    flags = [f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f]
    return os.environ | {"XLA_FLAGS": " ".join(flags), "PATH": path}


def train(*flags, expect=0, launcher=(sys.executable, "-m", "bert_jax.train")):
    run = subprocess.run(
        command(*flags, launcher=launcher),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert run.returncode == expect, run.stdout + run.stderr
    return run.stdout + run.stderr


def records(workdir):
    """The metrics without the timings."""
    return [
        {name: value for name, value in record.items() if name not in TIMINGS}
        for record in metrics.read(workdir)
    ]


def as_document(page):
    """One paragraph a line, none of them empty, so that the page stays one document."""
    paragraphs = (" ".join(part.split()) for part in page.split("\n\n"))
    return "\n".join(filter(None, paragraphs))


def pages():
    """Some pages of real English, Python's own language reference, as documents."""
    names = sorted(topics.topics)[:30]
    return "\n\n".join(as_document(topics.topics[name]) for name in names)
