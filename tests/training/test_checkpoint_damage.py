"""Damaged checkpoints: found, named, and the one before used, for every kind of file in one."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.training import digests, saved
from bert_jax.training.checkpoint import Checkpoints, restore_params
from bert_jax.training.step import TrainState

PARAMS = {"kernel": jax.ShapeDtypeStruct((64, 8), jnp.float32)}
KINDS = {
    "commit marker": "commit_success.txt",
    "digests": "digests.json",
    "checkpoint metadata": "_CHECKPOINT_METADATA",
    "held-out loss": "metrics/metrics",
    "tree metadata": "default/_METADATA",
    "shardings": "default/_sharding",
    "array metadata": "default/array_metadatas/process_0",
    "manifest": "default/manifest.ocdbt",
    "index": "default/d/*",
    "manifest of a process": "default/ocdbt.process_0/manifest.ocdbt",
    "arrays": "default/ocdbt.process_0/d/*",
}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def state_at(step):
    kernel = np.random.default_rng(step).normal(size=(64, 8)).astype(np.float32)
    return TrainState(jnp.int32(step), {"kernel": jnp.asarray(kernel)}, {"count": jnp.int32(step)})


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of the steps 3 and 7."""
    directory = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(directory, keep=5, keep_best=1)
    for step in (3, 7):
        checkpoints.save(state_at(step), {"corpus": "a"}, held_out_loss=1.0)
    checkpoints.close()
    return directory


@pytest.fixture
def copied(two, tmp_path):
    shutil.copytree(two, tmp_path / "copy")
    return tmp_path / "copy"


def test_every_file_of_a_checkpoint_has_its_digest_and_is_of_a_kind_that_is_tested(two):
    files = {path for path in (two / "7").rglob("*") if path.is_file()}
    listed = json.loads((two / "7" / digests.FILE).read_text())["files"]
    assert {str(path.relative_to(two / "7")) for path in files} == {*listed, digests.FILE}
    kinds = {path for pattern in KINDS.values() for path in (two / "7").glob(pattern)}
    # Each item has a marker of its own, of the kind of the whole checkpoint's.
    assert {path for path in files - kinds if path.name != "commit_success.txt"} == set()


@pytest.mark.parametrize("change", [flip, truncate, lambda path: path.unlink()])
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_named_and_the_checkpoint_before_is_used(copied, kind, change, capsys):
    path = max((copied / "7").glob(KINDS[kind]), key=lambda path: path.stat().st_size)
    change(path)
    name = path.relative_to(copied / "7").as_posix()
    with pytest.raises(UserError, match=rf"--step=7: .*{copied}/7 is damaged: {name} "):
        saved.choose(copied, 7)
    assert saved.choose(copied, None) == 3
    assert f"{copied}/7 is damaged: {name} " in capsys.readouterr().out

    saved.set_aside_damaged(copied)
    said = capsys.readouterr().out
    assert f"{name} " in said
    assert "goes on from step 3; the damaged one is now 7.damaged" in said
    assert saved.saved_steps(copied) == [3]


def test_training_goes_on_after_a_damaged_one_was_set_aside(copied, capsys):
    flip(copied / "7" / "metrics" / "metrics")
    step, params = restore_params(copied, None, PARAMS)
    assert step == 3
    np.testing.assert_array_equal(params["kernel"], state_at(3).params["kernel"])
    saved.set_aside_damaged(copied)
    checkpoints = Checkpoints(copied, keep=5, keep_best=1)
    assert checkpoints.latest_step() == 3
    checkpoints.save(state_at(7), {"corpus": "a"})
    checkpoints.close()
    assert restore_params(copied, None, PARAMS)[0] == 7
    assert (copied / "7.damaged").is_dir()


def test_an_earlier_one_with_a_damaged_loss_does_not_stop_the_start(copied, capsys):
    truncate(copied / "3" / "metrics" / "metrics")
    saved.set_aside_damaged(copied)
    assert "3 is damaged: metrics/metrics has" in capsys.readouterr().out
    assert saved.saved_steps(copied) == [7]
    Checkpoints(copied, keep=5).close()


def test_where_none_is_whole_each_is_named_and_left_in_its_place(copied):
    flip(copied / "3" / "default" / "_sharding")
    flip(copied / "7" / "default" / "_METADATA")
    with pytest.raises(UserError, match=r"no checkpoint .*7: default/_METADATA .*; 3: def"):
        saved.set_aside_damaged(copied)
    assert saved.saved_steps(copied) == [3, 7]


def of_an_earlier_version(directory):
    """Makes a checkpoint what a version without digests wrote."""
    (directory / digests.FILE).unlink()
    path = directory / digests.METADATA
    metadata = json.loads(path.read_text())
    del metadata["custom_metadata"]["digests"]
    path.write_text(json.dumps(metadata))


def test_a_checkpoint_of_an_earlier_version_is_used_with_a_note(copied, capsys):
    of_an_earlier_version(copied / "7")
    assert restore_params(copied, None, PARAMS)[0] == 7
    assert "7 has no digests.json" in capsys.readouterr().out
    checkpoints = Checkpoints(copied, keep=5)
    assert checkpoints.stream(7) == checkpoints.stream(3) == {"corpus": "a"}
    checkpoints.close()
    (copied / "7" / "default" / "manifest.ocdbt").write_bytes(b"")
    assert restore_params(copied, None, PARAMS)[0] == 3
    assert "7 is damaged: default/manifest.ocdbt is empty" in capsys.readouterr().out


def test_a_file_that_may_not_be_read_is_not_taken_for_damaged(copied, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(digests.hashlib, "file_digest", refuse)
    with pytest.raises(PermissionError):
        saved.set_aside_damaged(copied)
    assert saved.saved_steps(copied) == [3, 7]
