"""Meshes, shardings and rows: what does not divide is refused, what does covers everything."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax import model as model_lib
from bert_jax.common.errors import UserError
from bert_jax.config import default_config
from bert_jax.model import ModelConfig
from bert_jax.performance import topology
from bert_jax.training import sharding
from bert_jax.training.settings import MeshSettings


def mesh(devices=None, **sizes):
    return sharding.make_mesh(MeshSettings(**sizes), devices)


def test_data_takes_all_devices_that_are_left():
    assert dict(mesh(fsdp=2).shape) == {"data": 4, "fsdp": 2, "tensor": 1}


@pytest.mark.parametrize("sizes", [{"tensor": 3}, {"data": 2}, {"data": -1, "fsdp": 16}])
def test_a_mesh_that_is_not_the_devices_is_refused(sizes):
    with pytest.raises(UserError, match="there are 8 devices"):
        mesh(**sizes)


def test_a_batch_that_does_not_divide_over_the_mesh_is_refused():
    with pytest.raises(UserError, match=r"global_batch_size 24 .* multiple of 16"):
        sharding.check_batch_size(mesh(), 24, micro_batches=2)


def test_a_parameter_that_an_axis_does_not_divide_is_refused_by_name():
    config = default_config()
    _, params = model_lib.abstract(ModelConfig(1001, **config.model.to_dict()))
    with pytest.raises(UserError, match=r"mesh\.tensor=2 does not divide 1001.*tokens\.embedding"):
        sharding.parameter_shardings(mesh(tensor=2), params)


def test_fsdp_and_tensor_split_every_matrix_and_replicate_no_large_parameter():
    config = default_config()
    _, params = model_lib.abstract(ModelConfig(1024, **config.model.to_dict()))
    shardings = sharding.parameter_shardings(mesh(data=2, fsdp=2, tensor=2), params)
    for (path, leaf), spread in zip(
        jax.tree.leaves_with_path(params), jax.tree.leaves(shardings), strict=True
    ):
        if leaf.size > 1024:
            assert not spread.is_fully_replicated, jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_optimizer_state_is_sharded_like_its_parameters_or_replicated(name):
    params = {"encoder": {"qkv": {"kernel": jnp.zeros((64, 3, 4, 16))}}}
    optimizer = {
        "adamw": optax.adamw(0.1),
        "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
    }[name]
    state = jax.eval_shape(optimizer.init, params)
    shardings = sharding.parameter_shardings(mesh(data=2, fsdp=2, tensor=2), params)
    found = sharding.optimizer_shardings(state, params, shardings)
    split = {
        leaf.shape
        for leaf, spread in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True)
        if not spread.is_fully_replicated
    }
    assert split == ({(64, 3, 4, 16)} if name == "adamw" else set())


SIZES = [{}, {"fsdp": 2}, {"fsdp": 2, "tensor": 2}, {"tensor": 8}]


@pytest.mark.parametrize("sizes", SIZES)
def test_one_process_holds_all_rows(sizes):
    assert sharding.process_rows(mesh(**sizes), 32).tolist() == list(range(32))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6, 7], [0, 3, 5, 6, 7, 4, 2, 1]])
def test_the_global_batch_is_the_same_on_any_order_of_devices(sizes, order):
    devices = mesh(devices=[jax.devices()[i] for i in order], **sizes)
    assert [device.id for device in devices.devices.flat] == order
    batch = {"ids": np.arange(96).reshape(32, 3), "label": np.arange(32)}
    placed = sharding.place_batch(devices, batch, 32)
    for name, array in batch.items():
        assert placed[name].sharding == sharding.batch_sharding(devices)
        np.testing.assert_array_equal(placed[name], array)


def assert_processes_build_and_place_all(devices, process_of, global_batch_size):
    """Each process's rows are enough for its devices, and all processes have all rows."""
    whole = np.arange(3 * global_batch_size).reshape(-1, 3)
    places = collections.defaultdict(list)
    shape = (global_batch_size,)
    for device, place in sharding.batch_sharding(devices).devices_indices_map(shape).items():
        places[process_of(device)].append(place)
    all_held = [sharding.held_rows(own, global_batch_size) for own in places.values()]
    for held, own in zip(all_held, places.values(), strict=True):
        for place in own:
            np.testing.assert_array_equal(sharding.part_at(whole[held], held, place), whole[place])
    assert set(np.concatenate(all_held).tolist()) == set(range(global_batch_size))
    return all_held


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("processes", [[0, 0, 1, 1, 1, 1, 0, 0], [0, 1, 2, 3, 3, 2, 1, 0]])
def test_processes_may_hold_rows_that_are_no_range(sizes, processes):
    assert_processes_build_and_place_all(mesh(**sizes), lambda device: processes[device.id], 32)


@pytest.mark.parametrize("sizes", [{}, {"fsdp": 4}, {"fsdp": 2, "tensor": 4}])
def test_hosts_of_a_tpu_slice_hold_all_rows(sizes):
    """A host has a block of 2 x 2 chips; the mesh goes round the slice, or along its lines."""
    pytest.importorskip("libtpu")
    chips = topology.devices(topology.Slice.parse("v5e:4x4"))
    held = assert_processes_build_and_place_all(
        mesh(devices=chips, **sizes), lambda device: device.process_index, 64
    )
    assert len(held) == 4
    if sizes != {"fsdp": 2, "tensor": 4}:
        assert any(np.any(np.diff(rows) != 1) for rows in held)
