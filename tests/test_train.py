"""The command itself: kill and resume, two processes, learning, and every refusal."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data import topics

import jax
import numpy as np
import pytest

from bert_jax import metrics
from bert_jax import train as train_module
from bert_jax.config import load_config as load_config_file
from bert_jax.corpus.store import TokenStore
from bert_jax.errors import UserError
from bert_jax.stream import permutation
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.identity import expect_same, identity
from bert_jax.workdir import CHECKPOINTS, load_config, load_run

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


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Some pages of real English: Python's own language reference."""
    pages = [topics.topics[name] for name in sorted(topics.topics)[:30]]
    path = tmp_path_factory.mktemp("corpus") / "pages.txt"
    path.write_text("\n\n".join(as_document(page) for page in pages))
    return f"--config.corpus.source=text:{path}"


def as_document(page):
    """One paragraph a line, none of them empty, so that the page stays one document."""
    paragraphs = (" ".join(part.split()) for part in page.split("\n\n"))
    return "\n".join(filter(None, paragraphs))


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


def test_what_is_refused_ends_in_one_line_and_leaves_no_run(corpus, tmp_path):
    workdir = tmp_path / "run"
    source = f"--config.corpus.source=text:{tmp_path}/nowhere/*.txt"
    said = train(source, f"--workdir={workdir}", expect=1)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "nowhere" in errors[0]
    assert "Traceback" not in said
    assert not (workdir / "config.json").exists()
    # The mended command is not tripped up by the first try.
    train(corpus, f"--workdir={workdir}", "--config.total_steps=5")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 9 MB: enough for the corpus of a tiny run, too little for its first checkpoint."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_said_and_the_same_command_goes_on_when_there_is_room(corpus, small_disk):
    wide = ("--config.model.hidden_size=256", "--config.model.num_attention_heads=4")
    flags = (corpus, f"--workdir={small_disk}/run", "--config.total_steps=5", *wide)
    said = train(*flags, expect=1)
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "disk" in error
    assert "full" in error
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    assert "Held-out at step 5" in train(*flags)


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
    config.corpus.source = "text:/nowhere"  # would be refused next
    group, _, name = field.rpartition(".")
    (config[group] if group else config)[name] = value
    with pytest.raises(UserError, match=message):
        train_module.train(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_stream_that_would_differ_is_refused_with_the_reason(unbroken):
    store = TokenStore.open(unbroken[0] / "corpus")
    config = load_config(unbroken[0])
    now = identity(store, TrainBatches(store, config), 15)
    expect_same(now, now, store, 15)
    with pytest.raises(
        UserError, match="is not the one that this run was trained on up to step 15"
    ):
        expect_same(now | {"corpus": "another"}, now, store, 15)
    config.seed = 1  # stands for code that makes other batches of the same corpus
    with pytest.raises(UserError, match="step 14 of this run would have another batch now"):
        expect_same(now, identity(store, TrainBatches(store, config), 15), store, 15)


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


def test_rows_grow_longer_with_another_rotary_base(corpus, tmp_path):
    config = load_config_file("configs/modernbert.py", "base")
    config.corpus.source = corpus.partition("=")[2]
    config.corpus.heldout_fraction, config.corpus.workers = 0.2, 1
    config.tokenizer.vocab_size = 300
    config.total_steps, config.warmup_steps, config.global_batch_size = 4, 1, 8
    config.log_every, config.eval_every, config.checkpoint_every = 1, 2, 2
    config.stream.phases = (
        {"until": 0.5, "sequence_length": 32, "rope_theta": 100.0},
        {"until": 1.0, "sequence_length": 256, "rope_theta": 10_000.0},
    )
    config.model.hidden_size, config.model.intermediate_size = 32, 48
    config.model.num_attention_heads, config.model.num_hidden_layers = 2, 2
    config.optimizer.name = "adamw"  # compiles sooner
    train_module.train(config, tmp_path / "run")

    assert [load_run(tmp_path / "run", step).model.rope_theta for step in (2, 4)] == [100.0, 1e4]
    exported = json.loads((tmp_path / "run" / "hf" / "config.json").read_text())
    assert exported["rope_parameters"]["full_attention"]["rope_theta"] == 10_000.0


def test_a_small_real_text_is_learned_beyond_its_word_frequencies(tmp_path):
    """A model that only knows how often each piece occurs stays at the unigram entropy."""
    pages = [as_document(topics.topics[name]) for name in sorted(topics.topics)]
    (tmp_path / "topics.txt").write_text("\n\n".join(pages))
    config = load_config_file("configs/quickstart.py", "")
    config.corpus.source = f"text:{tmp_path}/topics.txt"
    config.corpus.heldout_fraction = 0.05
    config.corpus.workers = 1
    config.tokenizer.vocab_size = 1000
    config.total_steps, config.warmup_steps, config.global_batch_size = 150, 15, 32
    config.eval_every = config.checkpoint_every = config.total_steps
    config.model.num_hidden_layers = 2
    train_module.train(config, tmp_path / "run")

    tokens = np.concatenate(
        [
            shard.tokens
            for shard in TokenStore.open(tmp_path / "run" / "corpus").split("train").shards
        ]
    )
    counts = np.bincount(tokens[tokens > 4])  # without the special pieces
    shares = counts[counts > 0] / counts.sum()
    entropy = -(shares * np.log(shares)).sum()
    held_out = [r for r in metrics.read(tmp_path / "run") if r["split"] == "heldout"][-1]
    assert held_out["mlm_loss"] < entropy - 0.5
