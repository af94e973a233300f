"""The mesh of devices, and the sharding of the state and of the batch over it."""

import functools
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Int64, Shaped

from bert_jax.common.errors import UserError
from bert_jax.model import Batch
from bert_jax.model.heads import HEADS
from bert_jax.model.placement import ROWS
from bert_jax.stream.rows import Batch as HostBatch
from bert_jax.training.parameter_rules import assign, name_of
from bert_jax.training.settings import MeshSettings

AXES = ("data", "fsdp", "tensor")
BATCH = P(ROWS)  # split over the data and fsdp axes

# fsdp splits the width D of every matrix, tensor splits heads, feed-forward and vocabulary.
PARAMETERS = (
    (r"tokens\.embedding", ("tensor", "fsdp")),  # [V, D]
    (r"(positions|token_types)\.embedding", (None, "fsdp")),  # [max, D]
    (r"qkv\.kernel", ("fsdp", None, "tensor", None)),  # [D, 3, N, H]
    (r"qkv\.bias", (None, "tensor", None)),  # [3, N, H]
    (r"attention\.output\.kernel", ("tensor", None, "fsdp")),  # [N, H, D]
    (r"feed_forward\.input\.kernel", ("fsdp", ..., "tensor")),  # [D, F] or [D, 2, F]
    (r"feed_forward\.input\.bias", (..., "tensor")),  # [F] or [2, F]
    (r"feed_forward\.output\.kernel", ("tensor", "fsdp")),  # [F, D]
    (r"(mlm_head\.transform|pooler)\.kernel", ("fsdp", None)),  # [D, D]
    (r"mlm_head\.bias", ("tensor",)),  # [V]
    *(rule for head in HEADS.values() for rule in head.sharding),
    (r"heads\..*", ()),  # of fine-tuned tasks: small
    (r"bias|scale|classifier\.kernel", ()),
)


def start_distributed() -> None:
    """Connect to the run's other processes; must be called before any use of a device.

    Three environment variables (launch/local.sh sets them) or, without them, the engine that
    started the process: SLURM, Open MPI, GKE, TPU pods.

    Raises:
      UserError: neither says where the other processes are.
    """
    try:
        if "JAX_NUM_PROCESSES" in os.environ:
            jax.distributed.initialize(
                coordinator_address=os.environ["JAX_COORDINATOR_ADDRESS"],
                num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
                process_id=int(os.environ["JAX_PROCESS_ID"]),
                # Otherwise JAX would ask SLURM, where it runs, which GPU belongs to this process.
                cluster_detection_method="deactivate",
            )
        else:
            jax.distributed.initialize()
    except (KeyError, ValueError) as error:
        raise UserError(
            f"--distributed found no processes to meet ({error}): start with launch/local.sh or "
            "srun, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error


def make_mesh(settings: MeshSettings, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices as a grid data x fsdp x tensor.

    Args:
      settings: sizes of the axes.
      devices: None: all devices of all processes.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    sizes = [getattr(settings, axis) for axis in AXES]
    count = len(devices or jax.devices())
    is_possible = min(sizes[1:]) >= 1 and (sizes[0] == -1 or sizes[0] >= 1)
    if is_possible and sizes[0] == -1 and count % math.prod(sizes[1:]) == 0:
        sizes[0] = count // math.prod(sizes[1:])
    if not is_possible or math.prod(sizes) != count:
        text = " x ".join(f"{axis}={getattr(settings, axis)}" for axis in AXES)
        raise UserError(
            f"config.mesh is {text}, but there are {count} devices: "
            "make the product equal (only data may be -1, which takes all that are left)"
        )
    # Auto axes: the compiler propagates shardings, as cuDNN attention still requires.
    types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)


def parameter_shardings(mesh: Mesh, params: Any) -> Any:
    """The sharding of each parameter (arrays or shapes), by the rules of `PARAMETERS`.

    Raises:
      UserError: an axis of the mesh does not divide a parameter.
    """

    def sharding(path: jax.tree_util.KeyPath, leaf: Any, axes: tuple) -> NamedSharding:
        if ... in axes:  # any number of axes that are not split
            index = axes.index(...)
            unsplit = (None,) * (leaf.ndim - len(axes) + 1)
            axes = (*axes[:index], *unsplit, *axes[index + 1 :])
        for size, axis in zip(leaf.shape, axes, strict=False):
            if axis is not None and size % mesh.shape[axis]:
                raise UserError(
                    f"config.mesh.{axis}={mesh.shape[axis]} does not divide {size}, a size of the "
                    f"parameter {name_of(path)} {leaf.shape}: choose another mesh or model size"
                )
        return NamedSharding(mesh, P(*axes))

    return jax.tree.map_with_path(sharding, params, assign(PARAMETERS, params))


def optimizer_shardings(opt_state: Any, params: Any, shardings: Any) -> Any:
    """The sharding of each leaf of an optimizer's state.

    A leaf that has the name (at its end) and the shape of a parameter is sharded like it, as
    moments are. All others are replicated: counters, and the factors of factored optimizers.

    Args:
      opt_state: arrays or shapes.
      params: arrays or shapes.
      shardings: of `params`.
    """
    mesh = jax.tree.leaves(shardings)[0].mesh
    by_name = {
        name_of(path): (leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree.leaves_with_path(params), jax.tree.leaves(shardings), strict=True
        )
    }

    def sharding(path: jax.tree_util.KeyPath, leaf: Any) -> NamedSharding:
        parts = name_of(path).split(".")
        for first in range(len(parts)):
            shape, sharding = by_name.get(".".join(parts[first:]), (None, None))
            if sharding is not None and shape == leaf.shape:
                return sharding
        return NamedSharding(mesh, P())

    return jax.tree.map_with_path(sharding, opt_state)


def gathered(shardings: Any) -> Any:
    """The shardings of parameters during the forward and backward pass: not split over fsdp.

    Without this constraint the compiler may split the products along D instead, and exchange the
    activations of the whole batch.
    """

    def gather(sharding: NamedSharding) -> NamedSharding:
        axes = (None if axis == "fsdp" else axis for axis in sharding.spec)
        return NamedSharding(sharding.mesh, P(*axes))

    return jax.tree.map(gather, shardings)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over the data and fsdp axes."""
    return NamedSharding(mesh, BATCH)


def parts_of_batch(mesh: Mesh, micro_batches: int) -> int:
    """The number of equal parts of a global batch: one for each replica and micro-batch."""
    return mesh.shape["data"] * mesh.shape["fsdp"] * micro_batches


def check_batch_size(mesh: Mesh, global_batch_size: int, micro_batches: int) -> None:
    """Check that the rows of a batch can be spread evenly.

    Raises:
      UserError: the batch does not divide over the devices and micro-batches.
    """
    parts = parts_of_batch(mesh, micro_batches)
    if micro_batches < 1 or global_batch_size % parts:
        raise UserError(
            f"config.global_batch_size {global_batch_size} does not divide over data="
            f"{mesh.shape['data']} x fsdp={mesh.shape['fsdp']} x micro_batches={micro_batches} "
            f"= {parts} parts: make it a multiple of {max(parts, 1)}"
        )


def process_rows(mesh: Mesh, global_batch_size: int) -> Int64[np.ndarray, "rows"]:
    """The rows of the global batch that this process's devices hold, ascending.

    Derived from the sharding, so that any order of devices and processes works. The rows need not
    be one range: the chips of a TPU host are a block of the slice's grid, and the mesh is ordered
    by its lines.
    """
    ranges = batch_sharding(mesh).addressable_devices_indices_map((global_batch_size,))
    return held_rows((index for index in ranges.values() if index), global_batch_size)


def held_rows(
    ranges: Iterable[tuple[slice, ...]], global_batch_size: int
) -> Int64[np.ndarray, "rows"]:
    """The rows of the global batch in any of these index ranges, ascending."""
    is_held = np.zeros(global_batch_size, bool)
    for rows, *_ in ranges:
        is_held[rows] = True
    return np.flatnonzero(is_held)


def place_batch(mesh: Mesh, rows: HostBatch, global_batch_size: int) -> Batch:
    """The global batch on the devices, from the rows that this process built.

    Args:
      mesh: of the devices.
      rows: those of `process_rows`, in its order.
      global_batch_size: rows of all processes.
    """
    sharding = batch_sharding(mesh)
    held = process_rows(mesh, global_batch_size)
    return {
        name: jax.make_array_from_callback(
            (global_batch_size, *array.shape[1:]),
            sharding,
            functools.partial(part_at, array, held),
        )
        for name, array in rows.items()
    }


def part_at(
    array: Shaped[np.ndarray, "rows ..."],
    held: Int64[np.ndarray, "rows"],
    index: tuple[slice, ...],
) -> Shaped[np.ndarray, "part ..."]:
    """The part of the global array at `index`.

    Args:
      array: the rows `held` of it.
      held: ascending.
      index: of the part; covers held rows only.
    """
    start, stop, _ = index[0].indices(held[-1] + 1)
    return array[slice(*np.searchsorted(held, (start, stop)))]
