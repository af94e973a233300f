"""A signal saves the run after the current step; the same command then ends in the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bert_jax.run import finish
from bert_jax.run.progress import Reporter
from bert_jax.run.workdir import load_run
from bert_jax.training.preemption import EXIT_STATUS, StopRequests
from tests.runs import ROOT, command, records, tiny, train


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_run_continues_to_the_same_bytes(
    number, finished, corpus, tmp_path, monkeypatch, capsys
):
    step_of_signal = {signal.SIGTERM: 7, signal.SIGUSR1: 10, signal.SIGINT: 13}[number]
    report = Reporter.train

    def train_and_signal(self, step, phase, figures):
        report(self, step, phase, figures)
        if step == step_of_signal:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Reporter, "train", train_and_signal)
    with pytest.raises(SystemExit) as stopped:
        train(tiny(corpus), tmp_path)
    assert stopped.value.code == EXIT_STATUS
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert load_run(tmp_path).step == step_of_signal
    monkeypatch.undo()
    run = train(tiny(corpus), tmp_path)
    assert f"Continuing at step {step_of_signal} of 20" in run.said
    assert records(tmp_path) == records(finished.workdir)
    ours, theirs = load_run(tmp_path).params, load_run(finished.workdir).params
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
def test_a_signal_at_the_last_step_stops_and_the_same_command_finishes(
    corpus, tmp_path, monkeypatch
):
    report = Reporter.train

    def train_and_signal(self, step, phase, figures):
        report(self, step, phase, figures)
        if step == 20:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Reporter, "train", train_and_signal)
    with pytest.raises(SystemExit) as stopped:
        train(tiny(corpus), tmp_path)
    assert stopped.value.code == EXIT_STATUS
    assert load_run(tmp_path).step == 20
    assert not finish.is_finished(tmp_path, 20)
    train(tiny(corpus), tmp_path)
    assert finish.is_finished(tmp_path, 20)


def test_a_signal_during_the_export_ends_at_once_and_the_next_start_finishes(
    finished, corpus, tmp_path, monkeypatch
):
    def signalled(directory):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(finish, "finish", signalled)
    with pytest.raises(SystemExit) as stopped:
        train(tiny(corpus), tmp_path)
    assert stopped.value.code == EXIT_STATUS
    monkeypatch.undo()
    train(tiny(corpus), tmp_path)
    assert finish.is_finished(tmp_path, 20)
    assert records(tmp_path) == records(finished.workdir)


def test_a_signal_before_the_first_step_ends_at_once():
    with pytest.raises(SystemExit) as stopped, StopRequests():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == EXIT_STATUS


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [None, ("launch/local.sh", "2")])
def test_the_command_exits_with_75_on_a_signal_to_any_process(corpus, launcher, tmp_path):
    """With two processes the launcher passes the signal on; the runtime agrees on a step."""
    flags = f"--workdir={tmp_path}", "--config.total_steps=2000"
    start = command(corpus, *flags, **({"launcher": launcher} if launcher else {}))
    one_device = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        start,
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": " ".join(one_device), "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    for line in process.stdout:
        if line.startswith("step 3/"):
            process.send_signal(signal.SIGTERM)
            break
    said = process.stdout.read()
    assert process.wait(timeout=300) == EXIT_STATUS, said
    assert "Saved at step" in said
    assert load_run(tmp_path).step >= 3
