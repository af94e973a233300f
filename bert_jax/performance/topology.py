"""TPU slices to compile for without having them: chips, shapes, and the compiler."""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import jax

from bert_jax.common.errors import UserError

# libtpu queries the machine's TPU, and prints errors where there is none.
_WITHOUT_TPU = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nothing runs, so that compilers may run side by side
}

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16"),
    "8x16x16",
)


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of TPU chip, from Google's documentation (https://cloud.google.com/tpu/docs).

    Attributes:
      peak: dense bfloat16 FLOP/s.
      memory: bytes of its high-bandwidth memory.
      memory_bandwidth: bytes/s of that.
      link_bandwidth: bytes/s of one link to a neighbour, in one direction.
      ring: an axis of a multiple of this many chips closes to a ring; that of a three-dimensional
        grid only where all three do (whole cubes, which optical switches join).
      clock: cycles/s; the peak divided by the multiply-adds of its matrix units.
      network_bandwidth: bytes/s of the data-centre network between slices, for each chip; 0: not
        documented.
      slices: the usual shapes, smallest first.
      options: further options of the compiler.
    """

    peak: float
    memory: float
    memory_bandwidth: float
    link_bandwidth: float
    ring: int
    clock: float
    network_bandwidth: float
    slices: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


GIB = 2.0**30
# The documentation gives the interconnect of a chip in both directions together: v5e 400 GB/s over
# 4 links, v5p 1,200 GB/s over 6, v6e 800 GB/s over 4, v4 600 GB/s over 6.
CHIPS = {
    "v4": Chip(
        275e12, 32 * GIB, 1228e9, 50e9, 4, 1.05e9, 0.0, _CUBES, (("chip_config_name", "megacore"),)
    ),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 50e9, 16, 1.5e9, 3.125e9, _FLAT),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 100e9, 4, 1.75e9, 6.25e9, _CUBES),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, 100e9, 16, 1.75e9, 12.5e9, _FLAT),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips of one kind in a grid, such as `v5e:4x4`."""

    kind: str
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, name: str) -> "Slice":
        """The slice of a name.

        Raises:
          UserError: there is no such slice.
        """
        kind, _, shape = name.partition(":")
        if kind not in CHIPS:
            raise UserError(f"--topology={name}: the chips are {', '.join(CHIPS)}; say v5e:4x4")
        if shape not in CHIPS[kind].slices:
            slices = ", ".join(CHIPS[kind].slices)
            raise UserError(f"--topology={name}: the slices of {kind} are {slices}")
        return cls(kind, tuple(int(size) for size in shape.split("x")))

    @property
    def chip(self) -> Chip:
        """The kind of its chips."""
        return CHIPS[self.kind]

    def siblings(self) -> tuple["Slice", ...]:
        """The usual slices of its kind of chip, smallest first."""
        return tuple(Slice.parse(f"{self.kind}:{shape}") for shape in self.chip.slices)

    @property
    def chips(self) -> int:
        """The number of chips."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        """The name that `parse` takes."""
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    def bandwidth(self, axes: Sequence[int]) -> float:
        """Bytes/s that a chip can send along these axes of the grid, over all their links.

        Two links an axis where it closes to a ring, one where it is an open line (the chips at its
        ends have one, and all wait for them).
        """
        links = sum(2 if self._is_ring(axis) else 1 for axis in axes if self.shape[axis] > 1)
        return self.chip.link_bandwidth * links

    def _is_ring(self, axis: int) -> bool:
        sizes = self.shape if len(self.shape) == 3 else (self.shape[axis],)
        return all(size % self.chip.ring == 0 for size in sizes)

    def axes(self, coordinates: Sequence[Sequence[int]]) -> tuple[int, ...]:
        """The axes of the grid in which the coordinates of these chips differ."""
        return tuple(
            axis for axis in range(len(self.shape)) if len({chip[axis] for chip in coordinates}) > 1
        )


def devices(grid: Slice) -> list[jax.Device]:
    """The slice's chips as devices that can only be compiled for.

    The process can use no accelerator afterwards.

    Raises:
      UserError: the TPU compiler is not installed.
    """
    from jax.experimental import topologies

    try:
        import libtpu  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "this needs the TPU compiler, not a TPU: pip install -e '.[tpu]'"
        ) from error
    for name, value in _WITHOUT_TPU.items():
        os.environ.setdefault(name, value)
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    options: dict[str, Any] = dict(grid.chip.options)
    if grid.chips == 1:
        options["chips_per_host_bounds"] = (1,) * 3  # a host has four chips otherwise
    topology = topologies.get_topology_desc(platform="tpu", topology_name=str(grid), **options)
    return list(topology.devices)
