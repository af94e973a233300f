"""Checkpoints: exact, on any mesh, complete or absent."""

import jax
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.model import ModelConfig
from bert_jax.training import sharding
from bert_jax.training.checkpoint import Checkpoints, restore_params
from bert_jax.training.step import compile_steps

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


def test_a_state_is_restored_bit_for_bit_on_another_mesh(saved):
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
