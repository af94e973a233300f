"""Trackers: none by default, refused when they are not known, and given what TensorBoard has."""

import contextlib
import json
import re
import sqlite3
import time

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.run import metrics, trackers


class Kept:
    """A tracker that keeps what it gets."""

    def __init__(self):
        self.logged = []
        self.is_closed = False

    def log(self, step, figures):
        self.logged.append((step, dict(figures)))

    def close(self):
        self.is_closed = True


def test_there_is_none_by_default(tmp_path):
    assert trackers.start(default_config().tracker, tmp_path, {}) is None


def test_one_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.tracker is 'mlflow': it can be wandb, trackio"):
        trackers.check("mlflow")


def test_a_tracker_gets_every_figure_by_split(tmp_path, monkeypatch, capsys):
    kept = Kept()
    monkeypatch.setitem(trackers.TRACKERS, "kept", lambda workdir, config: kept)
    monkeypatch.setattr(trackers, "_client", lambda name: None)
    tracker = trackers.start("kept", tmp_path, {})
    writers = metrics.Writers(tmp_path, total_steps=10, first_step=0, tracker=tracker)
    writers.write(3, "train", {"loss": 2.5, "mlm_accuracy": 0.1})
    writers.close()
    assert kept.logged == [(3, {"train/loss": 2.5, "train/mlm_accuracy": 0.1})]
    assert kept.is_closed


@pytest.mark.slow
def test_wandb_keeps_the_figures_of_a_run_that_goes_back_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_steps("wandb", tmp_path, 5, 3)
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 30  # its service writes a moment later
    while not {b"5", b"3"} <= set(re.findall(rb"train/loss\D*2\.(\d)", kept.read_bytes())):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_trackio_keeps_the_figures_of_a_run_that_continues_in_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when it is imported
    pytest.importorskip("trackio")
    log_steps("trackio", tmp_path / "run", 1)
    log_steps("trackio", tmp_path / "run", 2)
    with contextlib.closing(sqlite3.connect(tmp_path / "bert_jax.db")) as database:
        rows = database.execute("select run_name, step, metrics from metrics order by step")
        found = [(run, step, json.loads(figures)) for run, step, figures in rows]
    assert [step for _, step, _ in found] == [1, 2]
    assert [figures for *_, figures in found] == [{"train/loss": 2.1}, {"train/loss": 2.2}]
    assert len({run for run, *_ in found}) == 1


def log_steps(name, workdir, *steps):
    workdir.mkdir(exist_ok=True)
    tracker = trackers.start(name, workdir, {"seed": 0, "model": {"norm": "pre"}})
    for step in steps:
        tracker.log(step, {"train/loss": 2 + step / 10})
    tracker.close()
