"""Training: kill and resume, two processes, what a run leaves behind."""

import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.corpus.store import TokenStore
from bert_jax.interop import parity
from bert_jax.run import finish, metrics
from bert_jax.run import preset as presets
from bert_jax.run.preset import Preset
from bert_jax.run.workdir import (
    CHECKPOINTS,
    FINISHED,
    HUGGING_FACE,
    LOCK,
    load_config,
    load_run,
)
from bert_jax.stream import permutation
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import expect_same, identity
from bert_jax.training import digests
from tests.runs import ROOT, assert_same_bytes, command, launched, records, tiny, train, whole_state


def wait_for(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not come that far in time"
        time.sleep(0.02)


def test_a_run_has_its_directory_alone_and_goes_on_to_the_same_bytes_when_killed(
    corpus, finished, tmp_path
):
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match="nowhere"):
        train(tiny(f"text:{tmp_path}/nowhere/*.txt"), workdir)
    assert not workdir.exists()  # a first try without a corpus is in nobody's way

    process = subprocess.Popen(
        command(corpus, f"--workdir={workdir}"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: (workdir / CHECKPOINTS / "5").exists(), process)
        with pytest.raises(UserError, match=rf"in use by another run.*{process.pid}"):
            train(tiny(corpus), workdir)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (workdir / LOCK).exists()  # left behind, and free
    assert not (workdir / CHECKPOINTS / "20").exists()

    assert "Continuing at step" in train(tiny(corpus), workdir).said
    assert records(workdir) == records(finished.workdir)
    assert_same_bytes(whole_state(workdir), whole_state(finished.workdir))


def test_a_damaged_checkpoint_is_left_out_and_training_comes_to_the_same_bytes(
    corpus, finished, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    arrays = max((workdir / CHECKPOINTS / "20").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
    assert load_run(workdir).step == 15

    said = train(tiny(corpus, keep_best=1), workdir).said
    assert f"{arrays.name} has another content" in said
    assert "Continuing at step 15" in said
    assert records(workdir) == records(finished.workdir)
    assert_same_bytes(whole_state(workdir), whole_state(finished.workdir))
    assert json.loads((workdir / CHECKPOINTS / "20" / "metrics" / "metrics").read_text()) == {
        "loss": next(r["loss"] for r in metrics.read(workdir)[::-1] if r["split"] == "heldout")
    }
    assert load_run(workdir).step == 20


def test_the_step_is_compiled_once_a_phase(finished):
    assert finished.logged.count("Compiling jit(train) ") == 2


@pytest.mark.slow
def test_two_processes_that_share_rows_and_parameters_train_as_one(corpus, finished, tmp_path):
    workdir = tmp_path / "run"
    launched(corpus, f"--workdir={workdir}", "--config.mesh.fsdp=2", processes=2)
    found, expected = records(workdir), records(finished.workdir)
    assert [(r["step"], r["split"]) for r in found] == [(r["step"], r["split"]) for r in expected]
    for a, b in zip(found, expected, strict=True):
        # The sums over the devices are added in another order; that grows over twenty steps.
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=2e-4)
        assert a.get("input") == b.get("input")


def test_a_process_that_fails_ends_the_others(tmp_path):
    source = f"text:{tmp_path}/nowhere/*.txt"
    began = time.monotonic()
    said = launched(source, f"--workdir={tmp_path}/run", processes=2, expect=1)
    assert time.monotonic() - began < 120  # the runtime itself would wait for five minutes
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "nowhere" in error
    assert "Traceback" not in said


def test_a_finished_run_says_so_and_does_nothing(corpus, finished):
    files = [path for path in finished.workdir.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    said = train(tiny(corpus), finished.workdir).said
    after = {path: path.stat().st_mtime_ns for path in finished.workdir.rglob("*")}
    assert "is finished" in said
    assert {path: time for path, time in after.items() if path.is_file()} == before


def test_a_run_that_died_after_its_last_step_is_finished_by_the_same_command(
    corpus, finished, tmp_path, monkeypatch
):
    """Also: a check of the export that fails ends in a warning, not in an error at every start."""
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    (workdir / FINISHED).unlink()
    shutil.rmtree(workdir / "hf")
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    said = train(tiny(corpus), workdir).said
    assert (workdir / "hf" / "model.safetensors").exists()
    warning = "Warning: the check of the export failed: the logits of"
    assert said.splitlines()[-1].startswith(warning)
    assert f'<p class="warning">{warning}' in (workdir / "report.html").read_text()

    again = train(tiny(corpus, log_every=2), workdir).said  # logging more often: the same run
    assert "is finished" in again
    assert again.splitlines()[-1].startswith(warning)


@pytest.mark.slow
def test_a_kill_between_the_last_save_and_the_export_changes_no_byte(
    corpus, finished, tmp_path, monkeypatch
):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    shutil.rmtree(workdir / CHECKPOINTS / "20")
    shutil.rmtree(workdir / HUGGING_FACE)
    (workdir / FINISHED).unlink()

    class KilledError(Exception):
        """Stands for SIGKILL: nothing more is saved or written."""

    def die(*_):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(finish, "finish", die)
        with pytest.raises(KilledError):
            train(tiny(corpus), workdir)
    assert not (workdir / HUGGING_FACE).exists()
    preset = Preset("another.py", tiny(corpus))
    said = train(tiny(corpus), workdir, preset=preset).said
    assert not (workdir / presets.FILE).exists()  # the run began with another one
    assert "Continuing at step 20 of 20" in said
    assert records(workdir) == records(finished.workdir)
    assert_same_bytes(whole_state(workdir), whole_state(finished.workdir))
    for file in (finished.workdir / HUGGING_FACE).iterdir():
        assert (workdir / HUGGING_FACE / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_run_leaves_what_the_other_commands_need(finished):
    workdir, said, _ = finished
    assert "heldout" in (workdir / "report.html").read_text()
    assert json.loads((workdir / "hf" / "config.json").read_text())["model_type"] == "bert"
    assert list((workdir / "tensorboard").iterdir())
    assert not (workdir / LOCK).exists()
    assert "[MASK]" in said
    assert "Its logits under transformers are within" in said
    assert "Warning" not in said
    assert "Warning" not in (workdir / "report.html").read_text()
    assert "from_pretrained" in said
    run = load_run(workdir)
    assert run.step == 20
    splits = {record["split"] for record in metrics.read(workdir)}
    assert splits == {"train", "heldout"}
    names = {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy", "learning_rate"}
    assert names < set(metrics.read(workdir)[-2])


def test_keep_policy_leaves_the_newest_checkpoints(finished):
    kept = sorted(int(path.name) for path in (finished.workdir / CHECKPOINTS).iterdir())
    assert kept == [10, 15, 20]


def test_both_phases_ran_at_their_lengths(finished):
    lengths = {
        round(r["tokens_per_second"] / r["sequences_per_second"])
        for r in metrics.read(finished.workdir)
        if "tokens_per_second" in r
    }
    assert lengths == {32, 64}


def test_a_stream_that_would_differ_is_refused_with_the_reason(finished):
    store = TokenStore.open(finished.workdir / "corpus")
    config = load_config(finished.workdir)
    now = identity(store, TrainBatches(store, parse(config).stream), 15)
    expect_same(now, now, store, 15)
    with pytest.raises(
        UserError, match="is not the one that this run was trained on up to step 15"
    ):
        expect_same(now | {"corpus": "another"}, now, store, 15)
    config.seed = 1  # stands for code that makes other batches of the same corpus
    with pytest.raises(UserError, match="step 14 of this run would have another batch now"):
        expect_same(now, identity(store, TrainBatches(store, parse(config).stream), 15), store, 15)


def test_a_run_whose_batches_would_differ_is_not_gone_on_with(finished, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    shutil.rmtree(workdir / CHECKPOINTS / "20")
    monkeypatch.setattr(permutation, "_ROUNDS", 2)  # a version that shuffles otherwise
    with pytest.raises(UserError, match="step 14 of this run would have another batch now"):
        train(load_config(workdir), workdir)
    monkeypatch.undo()
    facts = workdir / CHECKPOINTS / "15" / "_CHECKPOINT_METADATA"
    text = facts.read_text()
    corpus = TokenStore.open(workdir / "corpus").fingerprint
    assert corpus in text
    facts.write_text(text.replace(corpus, "another"))
    digests.write(facts.parent)
    with pytest.raises(UserError, match=r"not the one .* up to step 15 \(fingerprint another, now"):
        train(load_config(workdir), workdir)


def test_another_config_in_the_same_workdir_is_refused_with_the_difference(corpus, finished):
    with pytest.raises(UserError, match=r"seed was 0 and is now 5"):
        train(tiny(corpus, seed=5), finished.workdir)
