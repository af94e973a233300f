"""What the command refuses, in one line, before any work is done."""

import shutil
import subprocess

import pytest

from bert_jax import train as train_module
from bert_jax.common import command_line
from bert_jax.common.errors import UserError
from bert_jax.config import load_config as load_config_file
from bert_jax.run.preset import Preset
from tests import commands
from tests.runs import ROOT, command, tiny


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 9 MB: enough for the corpus of a tiny run, too little for its first checkpoint."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_same_command_goes_on_when_there_is_room(corpus, small_disk):
    wide = ("--config.model.hidden_size=256", "--config.model.num_attention_heads=4")
    flags = (corpus, f"--workdir={small_disk}/run", "--config.total_steps=5", *wide)

    def start():
        return subprocess.run(command(*flags), cwd=ROOT, capture_output=True, text=True)

    done = start()
    assert done.returncode == 1
    # Threads that write checkpoints may have left a line of their own unfinished.
    (error,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert "disk" in error
    assert "full" in error
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert "Held-out at step 5" in start().stdout


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("global_batch_size", 12, "multiple of 8"),
        ("mesh.tensor", 3, "there are 8 devices"),
        ("stream.sequence_length", 128, "max_position_embeddings=64"),
        ("model.next_sentence", False, r"config\.model\.next_sentence"),
        ("model.norm", "middle", r"config\.model\.norm is 'middle'"),
        ("log_every", 0, r"config\.log_every"),
        ("warmup_steps", 20, r"config\.warmup_steps"),
        ("optimizer.name", "sgd", "adamw or muon"),
        ("model.num_attention_heads", 3, r"config\.model\.num_attention_heads"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_any_work(field, value, message, tmp_path):
    config = load_config_file("configs/bert.py", "tiny")
    config.total_steps, config.warmup_steps = 20, 2
    config.model.max_position_embeddings = 64
    config.stream.phases = ()
    config.stream.sequence_length = 64
    config.corpus.source = "text:/nowhere"  # is refused next
    group, _, name = field.rpartition(".")
    (config[group] if group else config)[name] = value
    with pytest.raises(UserError, match=message):
        train_module.train(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_corpus_that_is_not_there_leaves_nothing_behind(tmp_path):
    config = tiny("text:/nowhere/*.txt")
    with pytest.raises(UserError, match=r"no file matches '/nowhere/\*\.txt'"):
        train_module.train(config, tmp_path / "runs" / "run", preset=Preset("bert:tiny", config))
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=rf"--workdir={workdir} cannot be made \("):
            train_module.train(tiny("text:/nowhere"), workdir)


def test_a_refused_config_leaves_the_run_as_it_was(corpus, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)

    def files():
        return {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}

    before, config = files(), tiny(corpus, seed=1)
    with pytest.raises(UserError, match="holds a run with another config: seed was 0 and is now 1"):
        train_module.train(config, workdir, preset=Preset("bert:tiny", config))
    assert files() == before


def test_one_of_several_tasks_does_not_train_by_itself(tmp_path, monkeypatch):
    def define():
        command_line.define_config()
        train_module.define_flags()

    monkeypatch.setenv("SLURM_NTASKS", "4")
    flags = (f"--config={ROOT}/configs/bert.py:tiny", f"--workdir={tmp_path}/run")
    error = commands.run(define, train_module.main, *flags).error()
    assert "SLURM_NTASKS=4" in error
    assert "--distributed" in error
    assert not list(tmp_path.iterdir())
