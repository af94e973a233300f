"""Checkpoints: exact, on any mesh, complete or absent, finite, and kept as asked for."""

import logging
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.model import ModelConfig
from bert_jax.training import sharding
from bert_jax.training.checkpoint import Checkpoints, restore_params
from bert_jax.training.saved import saved_steps
from bert_jax.training.step import TrainState, compile_steps

STREAM = {"corpus": "a", "last_batch": "b"}


def steps_on(**mesh):
    config = default_config()
    config.optimizer.name = "muon"
    config.model.update(hidden_size=32, num_hidden_layers=1, intermediate_size=64)
    config.mesh.update(mesh)
    return compile_steps(
        parse(config).training,
        ModelConfig(64, **config.model.to_dict()),
        sharding.make_mesh(parse(config).training.mesh),
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoints")
    state = steps_on(data=2, fsdp=2, tensor=2).init()
    checkpoints = Checkpoints(directory, keep=2)
    for step in (1, 2, 3):
        state.step = jax.numpy.int32(step)
        checkpoints.save(state, STREAM)
        checkpoints.wait()
    checkpoints.close()
    return directory, state


def test_a_state_is_restored_bit_for_bit_on_another_mesh(saved, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("absl"), "propagate", True)
    directory, state = saved
    checkpoints = Checkpoints(directory, keep=2)
    assert checkpoints.latest_step() == 3
    assert checkpoints.stream(3) == STREAM
    abstract = steps_on(data=8).abstract_state
    restored = checkpoints.restore(3, abstract)
    checkpoints.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b, wanted in zip(
        jax.tree.leaves(restored), jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        assert a.sharding == wanted.sharding
    assert "could not be restored" not in caplog.text  # Orbax's words for items it has no use for


def test_parameters_alone_come_as_host_arrays(saved):
    directory, state = saved
    step, params = restore_params(directory, None, state.params)
    assert step == 3
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True):
        assert isinstance(a, np.ndarray)
        np.testing.assert_array_equal(a, b)


def test_a_step_that_is_not_there_is_refused_with_those_that_are(saved):
    directory, state = saved
    with pytest.raises(UserError, match=r"--step=9: .* holds the steps 2, 3"):
        restore_params(directory, 9, state.params)


def test_a_run_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_params(tmp_path, None, {})


def test_what_a_killed_process_left_half_written_is_removed(saved, tmp_path):
    _, state = saved
    half = tmp_path / "3.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "data").write_text("half")
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest_step() is None
    checkpoints.save(state, STREAM)  # waits for the removal, and writes to a directory of that name
    assert not (half / "data").exists()
    checkpoints.close()
    assert restore_params(tmp_path, None, state.params)[0] == 3


def small(step, size=4):
    values = np.random.default_rng(step).normal(size=size).astype(np.float32)
    return TrainState(jnp.int32(step), {"kernel": jnp.asarray(values)}, {"mean": jnp.ones(2)})


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_state_that_is_not_finite_is_refused_and_the_newest_stays(tmp_path, bad):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(small(3), STREAM)
    state = small(6)
    state.opt_state["mean"] = state.opt_state["mean"].at[1].set(bad)
    refusal = (
        r"step 6 is not saved: opt_state/mean holds NaN or infinity\. The checkpoint of step 3"
    )
    with pytest.raises(UserError, match=refusal):
        checkpoints.save(state, STREAM)
    assert saved_steps(tmp_path) == [3]
    checkpoints.close()


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ({}, [6]),
        ({"keep_every": 2}, [2, 4, 6]),
        ({"keep_best": 1}, [3, 6]),
        ({"keep_every": 5, "keep_best": 2}, [1, 3, 5, 6]),
    ],
)
def test_the_newest_the_regular_and_the_best_are_kept_also_by_a_resumed_run(tmp_path, policy, kept):
    losses = {1: 2.0, 2: 4.0, 3: 1.0, 5: float("nan"), 6: 3.0}  # step 4 was not evaluated
    for steps in ((1, 2, 3), (4, 5, 6)):
        checkpoints = Checkpoints(tmp_path, keep=1, **policy)
        for step in steps:
            checkpoints.save(small(step), STREAM, losses.get(step))
        checkpoints.close()
    assert saved_steps(tmp_path) == kept


def test_a_full_disk_is_said_and_the_last_good_checkpoint_is_there(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("absl"), "propagate", True)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    try:
        checkpoints = Checkpoints(disk, keep=1)
        checkpoints.save(small(1, size=300_000), STREAM)
        checkpoints.wait()
        checkpoints.save(small(2, size=800_000), STREAM)
        refusal = rf"{disk} is full: .* not saved\. The checkpoint of step 1 is there"
        with pytest.raises(UserError, match=refusal):
            checkpoints.wait()
        assert not [record for record in caplog.records if record.exc_info]  # Orbax's tracebacks
        params = {"kernel": jax.ShapeDtypeStruct((300_000,), jnp.float32)}
        step, found = restore_params(disk, None, params)
        np.testing.assert_array_equal(found["kernel"], small(1, size=300_000).params["kernel"])

        again = ["mount", "-o", "remount,size=20m", str(disk)]
        subprocess.run(again, check=True)
        checkpoints = Checkpoints(disk, keep=1)
        assert checkpoints.latest_step() == step == 1
        checkpoints.save(small(2, size=800_000), STREAM)
        checkpoints.close()
        assert saved_steps(disk) == [2]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
