"""The command itself: kill and resume, two processes, what a run leaves behind."""

import json
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from bert_jax import train as train_module
from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.corpus.store import TokenStore
from bert_jax.run import metrics
from bert_jax.run.workdir import CHECKPOINTS, load_config, load_run
from bert_jax.stream import permutation
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import expect_same, identity
from tests.runs import ROOT, command, environment, records, train


@pytest.fixture(scope="module")
def unbroken(corpus, tmp_path_factory):
    """A run of 20 steps in one go."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_LOG_COMPILES", "1")
        return workdir, train(corpus, f"--workdir={workdir}")


def wait_for(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run did not come that far in time"
        time.sleep(0.02)


def test_a_killed_run_goes_on_to_the_same_bytes(corpus, unbroken, tmp_path):
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        command(corpus, f"--workdir={workdir}"),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: (workdir / CHECKPOINTS / "5").exists(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workdir / CHECKPOINTS / "20").exists()

    assert "Going on at step" in train(corpus, f"--workdir={workdir}")
    assert records(workdir) == records(unbroken[0])
    assert_same_bytes(whole_state(workdir), whole_state(unbroken[0]))


def whole_state(workdir):
    """Step, parameters and optimizer state of the last checkpoint as saved."""
    import orbax.checkpoint as ocp

    path = workdir / CHECKPOINTS / "20" / "default"
    return ocp.StandardCheckpointer().restore(path.absolute())


def assert_same_bytes(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        name = jax.tree_util.keystr(path)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


def test_the_step_is_compiled_once_a_phase(unbroken):
    assert unbroken[1].count("Compiling jit(train) ") == 2


def test_two_processes_that_share_rows_and_parameters_train_as_one(corpus, unbroken, tmp_path):
    workdir = tmp_path / "run"
    mesh = "--config.mesh.fsdp=2"
    train(corpus, f"--workdir={workdir}", mesh, launcher=("launch/local.sh", "2"))
    found, expected = records(workdir), records(unbroken[0])
    assert [(r["step"], r["split"]) for r in found] == [(r["step"], r["split"]) for r in expected]
    for a, b in zip(found, expected, strict=True):
        # The sums over two devices are added in another order; that grows over twenty steps.
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=2e-4)


def test_a_process_that_fails_ends_the_others(tmp_path):
    source = f"--config.corpus.source=text:{tmp_path}/nowhere/*.txt"
    launcher = ("launch/local.sh", "2")
    began = time.monotonic()
    assert "nowhere" in train(source, f"--workdir={tmp_path}/run", launcher=launcher, expect=1)
    assert time.monotonic() - began < 120  # the runtime itself would wait for five minutes


def test_a_finished_run_says_so_and_does_nothing(corpus, unbroken):
    workdir = unbroken[0]
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    said = train(corpus, f"--workdir={workdir}")
    after = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
    assert "is finished" in said
    assert after == before


def test_a_run_that_died_after_its_last_step_is_finished_by_the_same_command(
    corpus, unbroken, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    (workdir / "report.html").unlink()
    shutil.rmtree(workdir / "hf")
    assert "Exported" in train(corpus, f"--workdir={workdir}")
    assert (workdir / "hf" / "model.safetensors").exists()
    assert (workdir / "report.html").exists()


def test_the_run_leaves_what_the_other_commands_need(unbroken):
    workdir, said = unbroken
    assert (workdir / "report.html").read_text().count("<svg") == 1
    assert json.loads((workdir / "hf" / "config.json").read_text())["model_type"] == "bert"
    assert list((workdir / "tensorboard").iterdir())
    assert "[MASK]" in said
    assert "from_pretrained" in said
    run = load_run(workdir)
    assert run.step == 20
    splits = {record["split"] for record in metrics.read(workdir)}
    assert splits == {"train", "heldout"}
    names = {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy", "learning_rate"}
    assert names < set(metrics.read(workdir)[-2])


def test_keep_policy_leaves_the_newest_checkpoints(unbroken):
    kept = sorted(int(path.name) for path in (unbroken[0] / CHECKPOINTS).iterdir())
    assert kept == [10, 15, 20]


def test_both_phases_ran_at_their_lengths(unbroken):
    lengths = {
        round(r["tokens_per_second"] / r["sequences_per_second"])
        for r in metrics.read(unbroken[0])
        if "tokens_per_second" in r
    }
    assert lengths == {32, 64}


def test_a_stream_that_would_differ_is_refused_with_the_reason(unbroken):
    store = TokenStore.open(unbroken[0] / "corpus")
    config = load_config(unbroken[0])
    now = identity(store, TrainBatches(store, parse(config).stream), 15)
    expect_same(now, now, store, 15)
    with pytest.raises(
        UserError, match="is not the one that this run was trained on up to step 15"
    ):
        expect_same(now | {"corpus": "another"}, now, store, 15)
    config.seed = 1  # stands for code that makes other batches of the same corpus
    with pytest.raises(UserError, match="step 14 of this run would have another batch now"):
        expect_same(now, identity(store, TrainBatches(store, parse(config).stream), 15), store, 15)


def test_a_run_whose_batches_would_differ_is_not_gone_on_with(unbroken, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    shutil.rmtree(workdir / CHECKPOINTS / "20")
    (workdir / "report.html").unlink()
    monkeypatch.setattr(permutation, "_ROUNDS", 2)  # a version that shuffles otherwise
    with pytest.raises(UserError, match="step 14 of this run would have another batch now"):
        train_module.train(load_config(workdir), workdir)
    monkeypatch.undo()
    facts = workdir / CHECKPOINTS / "15" / "_CHECKPOINT_METADATA"
    text = facts.read_text()
    corpus = TokenStore.open(workdir / "corpus").fingerprint
    assert corpus in text
    facts.write_text(text.replace(corpus, "another"))
    with pytest.raises(UserError, match=r"not the one .* up to step 15 \(fingerprint another, now"):
        train_module.train(load_config(workdir), workdir)


def test_another_config_in_the_same_workdir_is_refused_with_the_difference(corpus, unbroken):
    said = train(corpus, f"--workdir={unbroken[0]}", "--config.learning_rate=0.5", expect=1)
    assert "learning_rate was 0.0001 and is now 0.5" in said


def test_logging_more_often_is_no_other_run(corpus, unbroken):
    said = train(corpus, f"--workdir={unbroken[0]}", "--config.log_every=2")
    assert "is finished" in said
