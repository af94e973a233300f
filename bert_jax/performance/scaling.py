"""Predicts the time of a step, and how it scales, from a compiled program and its chip.

The formulas are those of docs/scaling.md.
"""

import dataclasses
from collections.abc import Sequence

from bert_jax.performance.hlo import Collective
from bert_jax.performance.topology import Slice

Coordinates = Sequence[Sequence[int]]

HOP = 1e-6  # seconds from a chip to its neighbour, whatever the size
SIZES = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclasses.dataclass(frozen=True)
class Work:
    """What one chip does in a step.

    Attributes:
      flops: matrix products by the model's count.
      memory_traffic: bytes to and from the main memory.
      cycles: the compiler's estimate; 0: none.
      collectives: the exchanges.
    """

    flops: float
    memory_traffic: float
    cycles: int
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of a step.

    Attributes:
      products: the matrix products at the chip's peak.
      memory: the main memory's traffic at its bandwidth.
      compiler: all operations but the exchanges, by the compiler's estimate.
      exposed: exchanges that nothing else can hide.
      hidden: exchanges that other work can hide.
    """

    products: float
    memory: float
    compiler: float
    exposed: float
    hidden: float

    @property
    def alone(self) -> float:
        """Computation and memory of a chip: the longest of the three estimates."""
        return max(self.products, self.memory, self.compiler)

    @property
    def bound(self) -> float:
        """The least that the step can take: the roofline and the exposed exchanges."""
        return max(self.products, self.memory, self.hidden) + self.exposed

    @property
    def step(self) -> float:
        """The prediction."""
        return max(self.alone, self.hidden) + self.exposed

    @property
    def efficiency(self) -> float:
        """Share of the step that is not spent on exposed or longer exchanges."""
        return self.alone / self.step


def times(work: Work, grid: Slice, coordinates: Coordinates) -> Times:
    """The times of a step on the slice that it was compiled for.

    Args:
      work: a chip's share.
      grid: the slice.
      coordinates: in the slice, of each device of the mesh.
    """
    exchanges = [
        (collective, exchange(collective, grid, _axes(collective, grid, coordinates)))
        for collective in work.collectives
    ]
    return _times(work, grid, exchanges)


def weak_scaling(
    work: Work, grid: Slice, coordinates: Coordinates, growing: int
) -> dict[int, Times]:
    """The times on up to 1,024 chips of the kind, at the same number of rows a chip.

    One axis of the mesh grows with the chips. Exchanges along it span the larger slice, all others
    stay the same. Where the kind has no slice that large, several are joined by the data-centre
    network: each slice reduces its part, and every chip sends its share of the result.

    Args:
      work: a chip's share.
      grid: the slice it was compiled for.
      coordinates: in the slice, of each device of the mesh.
      growing: difference of the mesh indices of two neighbours on the growing axis.

    Returns:
      The times by the number of chips, from the fewest that can share the axes that do not grow.
    """
    known = {part.chips: part for part in grid.siblings()}
    by_chips = {}
    for chips in SIZES:
        part = known.get(chips, known[max(known)])
        slices = chips // part.chips
        if chips < growing or (slices > 1 and not grid.chip.network_bandwidth):
            continue
        exchanges = []
        for collective in work.collectives:
            axes = _axes(collective, grid, coordinates)
            if max(collective.group) < growing:  # within one position on the growing axis
                exchanges.append((collective, exchange(collective, grid, axes)))
                continue
            if len(axes) == sum(size > 1 for size in grid.shape):
                axes = tuple(range(len(part.shape)))
            members = len(collective.group) * part.chips // grid.chips
            seconds = exchange(collective, part, axes, members) if members > 1 else 0.0
            if slices > 1:
                sent = _passes(collective) * collective.total / members * (slices - 1) / slices
                seconds += sent / grid.chip.network_bandwidth
            exchanges.append((collective, seconds))
        by_chips[chips] = _times(work, grid, exchanges)
    return by_chips


def exchange(collective: Collective, grid: Slice, axes: Sequence[int], members: int = 0) -> float:
    """Seconds that a slice needs for all runs of an exchange.

    Args:
      collective: what is exchanged.
      grid: where.
      axes: the axes of the grid that the group lies along.
      members: devices of the group; 0: as compiled.
    """
    members = members or len(collective.group)
    passes = _passes(collective)
    share = 1.0 if collective.kind == "collective-permute" else (members - 1) / members
    hops = sum(grid.shape[axis] // 2 for axis in axes)
    sent = passes * collective.size * share / grid.bandwidth(axes)
    return collective.times * (sent + passes * hops * HOP)


def _passes(collective: Collective) -> int:
    return 2 if collective.kind == "all-reduce" else 1  # scatter the sums, then gather them


def _axes(collective: Collective, grid: Slice, coordinates: Coordinates) -> tuple[int, ...]:
    return grid.axes([coordinates[device] for device in collective.group])


def _times(work: Work, grid: Slice, exchanges: Sequence[tuple[Collective, float]]) -> Times:
    return Times(
        products=work.flops / grid.chip.peak,
        memory=work.memory_traffic / grid.chip.memory_bandwidth,
        compiler=work.cycles / grid.chip.clock,
        exposed=sum((time for collective, time in exchanges if not collective.is_async), 0.0),
        hidden=sum((time for collective, time in exchanges if collective.is_async), 0.0),
    )
