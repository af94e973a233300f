"""The mesh and the devices that a computation is traced for, and how activations are sharded."""

from typing import Any

import jax
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Shaped

AMD = ("AMD", "Radeon", "gfx")  # beginnings of `device_kind`
ROWS = ("data", "fsdp")  # the axes of the mesh that the rows of a batch are spread over


def mesh_in_context() -> AbstractMesh | None:
    """The mesh that the computation is traced for; None for a single device."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


def platform() -> str:
    """The platform that the computation is traced for: cpu, gpu (NVIDIA), rocm or tpu.

    The mesh may consist of devices that this machine does not have.
    """
    return platform_of(jax.sharding.get_abstract_mesh().abstract_device or jax.local_devices()[0])


def platform_of(device: Any) -> str:
    """The kind of a device: cpu, gpu (NVIDIA), rocm or tpu. JAX calls AMD's GPUs gpu too."""
    if device.platform == "rocm" or device.device_kind.startswith(AMD):
        return "rocm"
    return "gpu" if device.platform == "cuda" else device.platform


def place(x: Shaped[Array, "..."], *axes: str | tuple[str, ...] | None) -> Shaped[Array, "..."]:
    """`x` sharded over these axes of the mesh in context; without a mesh, `x` itself."""
    return x if mesh_in_context() is None else jax.lax.with_sharding_constraint(x, P(*axes))
