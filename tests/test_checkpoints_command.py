"""`python -m bert_jax.checkpoints`."""

import subprocess
import sys

import jax.numpy as jnp
import pytest

from bert_jax import checkpoints
from bert_jax.config import default_config
from bert_jax.run import metrics
from bert_jax.run.saved_config import to_json
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.step import TrainState
from tests import commands

LIST = (checkpoints.define_flags, checkpoints.main)


@pytest.fixture
def run(tmp_path):
    """A workdir with checkpoints of the steps 400 and 700 of two phases."""
    config = default_config()
    config.stream.phases = ({"until": 0.5}, {"until": 1.0})
    (tmp_path / "config.json").write_text(to_json(config))
    manager = Checkpoints(tmp_path / "checkpoints", keep=5)
    for step in (400, 700):
        manager.save(TrainState(jnp.int32(step), {"kernel": jnp.ones(3000)}, {}), {})
    manager.close()
    writers = metrics.Writers(tmp_path, total_steps=1000, first_step=0)
    writers.write(400, "train", {"loss": 9.0})
    writers.write(400, "heldout", {"loss": 3.25})
    writers.close()
    return tmp_path


def table(out):
    lines = [line.split(maxsplit=5) for line in out.splitlines() if "MB  " in line]
    return [(step, phase, loss, state) for step, phase, loss, size, _, state in lines]


def test_the_checkpoints_are_listed_with_what_is_damaged(run):
    done = commands.run(*LIST, f"--workdir={run}")
    assert done.status == 0
    assert table(done.out) == [("400", "0", "3.2500", "whole"), ("700", "1", "-", "whole")]

    (run / "checkpoints" / "400" / "default" / "_sharding").unlink()
    done = commands.run(*LIST, f"--workdir={run}")
    assert done.status == 0  # there is a newer one
    assert table(done.out)[0][3] == "damaged: default/_sharding is missing"

    (run / "checkpoints" / "300.damaged").mkdir()
    (run / "checkpoints" / "700" / "digests.json").unlink()
    done = commands.run(*LIST, f"--workdir={run}")
    assert table(done.out)[1][3] == "damaged: digests.json is missing"
    assert "300.damaged (0.0 MB)" in done.out
    assert "checkpoints/700 is damaged: digests.json is missing" in done.error()


def test_a_run_without_checkpoints_is_refused(tmp_path):
    assert "config.json is missing" in commands.run(*LIST, f"--workdir={tmp_path}").error()
    (tmp_path / "config.json").write_text(to_json(default_config()))
    assert "holds no checkpoint" in commands.run(*LIST, f"--workdir={tmp_path}").error()


def test_it_starts_without_tensorflow():
    code = "import sys, bert_jax.checkpoints; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
