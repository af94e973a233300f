"""Trackers: none by default, refused when they are not known, and given what TensorBoard has."""

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
