"""Reads the text of a compiled program: its collectives, memory traffic and estimated cycles."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations)=\{?((?:%[^\s,}]+(?:, )?)+)")
# mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}
_MESH = re.compile(
    r"replica_groups=mesh\[([^]]*)\]"
    r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}"
)

# Operations without memory traffic.
_MOVES_NOTHING = (
    *("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "while", "conditional"),
    *("call", "copy-done", "slice-done", "async-done", "all-reduce-done", "all-gather-done"),
    *("collective-permute-done", "partition-id", "replica-id"),
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation: `%name = result opcode(rest`."""

    name: str
    result: str
    opcode: str
    rest: str  # operands and attributes


Computation = dict[str, Instruction]  # by name, in order


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between devices.

    Attributes:
      kind: one of `KINDS`.
      arrays: (dtype, shape) of each whole array: the gathered one, the one before it is scattered.
      group: the devices that exchange with the first device, by their index in the mesh.
      times: how often it runs in a step.
      is_async: whether other work can run at the same time.
      source: JAX's name of the model's operation that it belongs to.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    group: tuple[int, ...]
    times: int
    is_async: bool
    source: str

    @property
    def size(self) -> int:
        """Bytes of the arrays in one run."""
        return sum(math.prod(shape) * _width(dtype) for dtype, shape in self.arrays)

    @property
    def total(self) -> int:
        """Bytes of all runs in a step."""
        return self.size * self.times


def collectives(text: str) -> list[Collective]:
    """The exchanges of an optimized program between two devices or more.

    Args:
      text: `as_text()` of a compiled program.
    """
    computations = parse(text)
    exchanges = []
    for computation, times, instruction in _executed(computations):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        group = _group(kind, instruction.rest)
        if len(group) < 2:
            continue
        whole = arrays(instruction.result)
        if kind == "reduce-scatter":
            whole = arrays(_operands(instruction, computations[computation]))
        elif instruction.opcode in ("all-gather-start", "collective-permute-start"):
            whole = (
                whole[1:2] if len(whole) % 2 else whole[len(whole) // 2 :]
            )  # (operands, results)
        if kind == "all-reduce" and _is_scattered(computation, computations):
            kind = "reduce-scatter"  # a TPU's form of it: a fusion of all-reduce and slice
        source = re.search(r'op_name="([^"]*)"', instruction.rest)
        exchanges.append(
            Collective(
                kind,
                whole,
                group,
                times,
                instruction.opcode.endswith("-start") or "async" in computation,
                source[1] if source else "",
            )
        )
    return exchanges


def estimated_cycles(text: str) -> int:
    """Clock cycles of a step by the TPU compiler's own estimate; 0 in programs without one."""
    return sum(
        times * int(cycles[1])
        for _, times, instruction in _executed(parse(text))
        if (cycles := re.search(r'"estimated_cycles":"(\d+)"', instruction.rest))
    )


def memory_traffic(text: str) -> int:
    """Bytes that a step reads from and writes to the main memory of a TPU.

    Each operation reads its operands and writes its results once; what is in the chip's vector
    memory (`S(1)` in the layout) counts only for the copies to and from it. An upper bound where
    an operation reads a part of an operand (an embedding's lookup).
    """
    computations = parse(text)
    fused = {
        name
        for computation in computations.values()
        for instruction in computation.values()
        if instruction.opcode == "fusion"
        for name in re.findall(r"calls=%([^\s,]+)", instruction.rest)
    }
    total = 0
    for computation, times, instruction in _executed(computations):
        opcode = instruction.opcode
        if computation in fused or opcode in _MOVES_NOTHING:
            continue
        if opcode == "copy-start":  # its result names the target and the source
            touched = instruction.result
        elif opcode == "slice-start":  # (the source), the target in vector memory
            touched = re.sub(r"^\(\(.*?\)\)?, |S\(1\)", "", instruction.result)
        else:
            touched = instruction.result + _operands(instruction, computations[computation])
        total += times * sum(
            math.prod(_integers(shape)) * _width(dtype)
            for dtype, shape, layout in re.findall(_ARRAY.pattern + r"(\{[^}]*\})?", touched)
            if "S(" not in layout
        )
    return total


def donated(text: str) -> int:
    """How many of the program's results are written over an argument."""
    header = text[: text.index("\n")]
    return len(re.findall(r"\((\d+), \{\}, (?:may|must)-alias\)", header))


def arrays(result: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """(dtype, shape) of each array of a type: `(f32[2]{0}, bf16[3,4]{1,0})`."""
    return tuple(
        (dtype, tuple(int(size) for size in shape.split(",") if size))
        for dtype, shape in _ARRAY.findall(result)
    )


def _width(dtype: str) -> int:
    """Bytes of one number."""
    bits = re.search(r"\d+", dtype)
    return -(-int(bits[0]) // 8) if bits else 1  # pred


def parse(text: str) -> dict[str, Computation]:
    """The computations of a program; that of the entry is named ENTRY."""
    computations: dict[str, Computation] = {}
    current: Computation = {}
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")):
            name = "ENTRY" if line.startswith("ENTRY") else line.split()[0].lstrip("%")
            current = computations.setdefault(name, {})
        elif match := _INSTRUCTION.match(line):
            current[match[1]] = Instruction(*match.groups())
    return computations


def _executed(
    computations: Mapping[str, Computation], name: str = "ENTRY", times: int = 1
) -> Iterator[tuple[str, int, Instruction]]:
    """Each instruction with the name of its computation and how often it runs.

    Both branches of a conditional count as run.
    """
    for instruction in computations[name].values():
        yield name, times, instruction
        if instruction.opcode.startswith(("all-reduce", "reduce", "scatter", "sort", "map")):
            continue  # they call scalar functions
        runs = times
        if instruction.opcode == "while":
            runs *= _trip_count(instruction, computations)
        for called in _CALLED.findall(instruction.rest):
            for inner in re.findall(r"%([^\s,]+)", called):
                yield from _executed(computations, inner, runs)


def _trip_count(loop: Instruction, computations: Mapping[str, Computation]) -> int:
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest):
        return int(known[1])
    condition = re.search(r"condition=%([^\s,]+)", loop.rest)
    limits = [
        int(value[1])
        for instruction in (computations[condition[1]].values() if condition else ())
        if instruction.opcode == "constant" and (value := re.match(r"(\d+)\)", instruction.rest))
    ]
    if len(limits) != 1:
        raise ValueError(f"the trip count of the loop %{loop.name} is not known")
    return limits[0]


def _is_scattered(name: str, computations: Mapping[str, Computation]) -> bool:
    return name != "ENTRY" and any(
        instruction.opcode == "dynamic-slice" for instruction in computations[name].values()
    )


def _operands(instruction: Instruction, computation: Computation) -> str:
    """The types of an instruction's operands, one after another."""
    return " ".join(computation[name].result for name in operand_names(instruction))


def operand_names(instruction: Instruction) -> list[str]:
    """The instructions whose results it takes."""
    return re.findall(r"%([^\s,)]+)", instruction.rest[: _closing(instruction.rest)])


def _closing(rest: str) -> int:
    """Where the parenthesis of the operands closes."""
    depth = 1
    for index, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if not depth:
            return index
    raise ValueError(f"operands without an end: {rest[:80]}")


def _group(kind: str, rest: str) -> tuple[int, ...]:
    """The devices that exchange with the first one of the first group."""
    if kind == "collective-permute":
        pairs = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest)
        return (int(pairs[1]), int(pairs[2])) if pairs else ()
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return tuple(int(device) for device in listed[1].split(","))
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        groups, grid, order = (_integers(text) for text in iota.groups())
        return tuple(_device_grid(grid, order).reshape(groups)[0].tolist())
    if named := _MESH.search(rest):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        grid = _integers(named[2]) or tuple(sizes.values())
        grid_devices = _device_grid(grid, _integers(named[3])).reshape(tuple(sizes.values()))
        index: list[slice | int] = [0] * len(sizes)
        for axis, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", named[4]):
            step = sizes[axis] // (int(before) * int(size)) if size else 1  # a part of an axis
            stop = int(size) * step if size else sizes[axis]
            index[list(sizes).index(axis)] = slice(0, stop, step)
        return tuple(grid_devices[tuple(index)].ravel().tolist())
    raise ValueError(f"unknown groups of devices: {rest[:300]}")


def _device_grid(grid: tuple[int, ...], order: tuple[int, ...]) -> Int[np.ndarray, "..."]:
    """The devices 0, 1, ... in a grid, its axes transposed to `order` if that is not empty."""
    return np.arange(math.prod(grid)).reshape(grid).transpose(order or tuple(range(len(grid))))


def _integers(text: str | None) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",")) if text else ()
