"""Meshes, shardings and rows: what does not divide is refused, what does covers everything."""

import jax
import pytest

from bert_jax import model as model_lib
from bert_jax import partition
from bert_jax.config import default_config
from bert_jax.errors import UserError
from bert_jax.model import ModelConfig


def mesh(**sizes):
    config = default_config().mesh
    config.update(sizes)
    return partition.make_mesh(config)


def test_data_takes_all_devices_that_are_left():
    assert dict(mesh(fsdp=2).shape) == {"data": 4, "fsdp": 2, "tensor": 1}


@pytest.mark.parametrize("sizes", [{"tensor": 3}, {"data": 2}, {"data": -1, "fsdp": 16}])
def test_a_mesh_that_is_not_the_devices_is_refused(sizes):
    with pytest.raises(UserError, match="there are 8 devices"):
        mesh(**sizes)


def test_a_batch_that_does_not_divide_over_the_mesh_is_refused():
    with pytest.raises(UserError, match=r"global_batch_size 24 .* multiple of 16"):
        partition.check_batch_size(mesh(), 24, micro_batches=2)


def test_a_parameter_that_an_axis_does_not_divide_is_refused_by_name():
    config = default_config()
    _, params = model_lib.abstract(ModelConfig.create(config.model, 1001))
    with pytest.raises(UserError, match=r"mesh\.tensor=2 does not divide 1001.*tokens\.embedding"):
        partition.state_shardings(mesh(tensor=2), params)


def test_fsdp_and_tensor_split_every_matrix_and_replicate_no_large_parameter():
    config = default_config()
    _, params = model_lib.abstract(ModelConfig.create(config.model, 1024))
    shardings = partition.state_shardings(mesh(data=2, fsdp=2, tensor=2), params)
    for (path, leaf), sharding in zip(
        jax.tree.leaves_with_path(params), jax.tree.leaves(shardings), strict=True
    ):
        if leaf.size > 1024:
            assert not sharding.is_fully_replicated, jax.tree_util.keystr(path)


@pytest.mark.parametrize("sizes", [{}, {"fsdp": 2}, {"fsdp": 2, "tensor": 2}, {"tensor": 8}])
def test_one_process_holds_all_rows(sizes):
    assert partition.process_rows(mesh(**sizes), 32) == slice(0, 32)
