"""Where activations live on the mesh, said to the compiler where it would guess badly."""

import jax
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Shaped

ROWS = ("data", "fsdp")  # the axes of the mesh that the rows of a batch are spread over


def mesh_in_context() -> AbstractMesh | None:
    """The mesh that the computation is traced for; None: a single device."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or mesh.size == 1 else mesh


def platform() -> str:
    """What the computation is traced for: cpu, gpu or tpu.

    The mesh may be of devices that this machine does not have.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return platform_of(jax.default_backend() if device is None else device.platform)


def platform_of(name: str) -> str:
    """One name for GPUs, which JAX calls by their maker at times."""
    return "gpu" if name in ("cuda", "rocm") else name


def place(x: Shaped[Array, "..."], *axes: str | tuple[str, ...] | None) -> Shaped[Array, "..."]:
    """`x` spread over these axes of the mesh in context; without a mesh, `x` itself."""
    return x if mesh_in_context() is None else jax.lax.with_sharding_constraint(x, P(*axes))
