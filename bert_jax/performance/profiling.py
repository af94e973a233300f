"""The time of a step by part of the model, from a profiler's trace.

A compiled program keeps the `jax.named_scope` that each instruction comes from; the trace has the
time at which each instruction ran. The backward pass of a part belongs to the part.
"""

import collections
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jax.profiler import ProfileData
from jaxtyping import Float

from bert_jax.performance import hlo

# The scopes of the model and the step, and their names in tables.
PARTS = {
    "embedding": "embedding",
    "attention": "attention",
    "feed_forward": "feed-forward",
    "norm": "norms, residual",
    "head": "head, loss",
    "optimizer": "optimizer",
}
OTHER = "other"  # instructions of no part
IDLE = "idle"  # no instruction is running

Shares = dict[str, float]  # of a scope in an instruction's time; they sum to 1

# Their time is that of the instructions inside, which the trace lists too.
_CONTAINERS = ("while", "call", "conditional")


def scope_of(op_name: str) -> str | None:
    """The innermost part in an instruction's name: `jit(train)/transpose(jvp(head))/norm/mul`."""
    return next((word for word in re.split(r"[/()]", op_name)[::-1] if word in PARTS), None)


def instruction_parts(text: str) -> dict[str, Shares]:
    """To which parts each instruction of a compiled program belongs; containers to none.

    A fusion belongs to the part of the matrix products in it; one without goes to the parts in
    proportion to the numbers that their instructions compute. An instruction that names no part
    (a copy, for instance) belongs to that of its operands.

    Args:
      text: `as_text()` of the program.
    """
    computations = hlo.parse(text)
    parts: dict[str, Shares] = {}
    for computation in computations.values():
        for instruction in computation.values():
            if instruction.opcode in _CONTAINERS:
                parts[instruction.name] = {}
                continue
            shares = _shares(instruction, computations)
            operands = hlo.operand_names(instruction)
            known = (parts.get(name, {}) for name in operands)
            from_operands = (shares for shares in known if shares and OTHER not in shares)
            parts[instruction.name] = shares or next(from_operands, {OTHER: 1.0})
    return parts


def _shares(
    instruction: hlo.Instruction, computations: Mapping[str, hlo.Computation]
) -> Shares | None:
    """The shares by the scopes of the instruction and of those fused into it; None: no scope."""
    called = re.search(r"calls=%([^\s,]+)", instruction.rest)
    inner = [instruction, *(computations[called[1]].values() if called else ())]
    products: collections.Counter[str] = collections.Counter()
    elements: collections.Counter[str] = collections.Counter()
    for each in inner:
        name = re.search(r'op_name="([^"]*)"', each.rest)
        if (scope := scope_of(name[1]) if name else None) is None:
            continue
        size = sum(math.prod(shape) for _, shape in hlo.arrays(each.result))
        elements[scope] += max(size, 1)
        if each.opcode in ("dot", "convolution"):
            products[scope] += max(size, 1)
    sizes = products or elements
    return {scope: size / sizes.total() for scope, size in sizes.items()} or None


def time_by_part(
    trace: Path, parts: Mapping[str, Shares], module: str, seconds: float
) -> dict[str, float]:
    """The time of some steps of a program, divided among the parts; the sum is `seconds`.

    Each moment belongs in equal shares to the instructions that run in it: two that run at once on
    two cores have half of it each. With several devices it is the mean over them.

    Args:
      trace: the directory that `jax.profiler.start_trace` was given.
      parts: of each instruction.
      module: the program's name, `jit_train`.
      seconds: how long the steps took; what no instruction fills is idle.
    """
    planes = _runs(trace, module)
    total: dict[str, float] = dict.fromkeys([*PARTS, OTHER], 0.0)
    for runs in planes:
        runs = [run for run in runs if parts.get(run[0]) != {}]  # no containers
        names = [name for name, _, _ in runs]
        spans = np.array([(start, stop) for _, start, stop in runs], np.float64).reshape(-1, 2)
        for name, credit in zip(names, _credits(spans) / 1e9 / len(planes), strict=True):
            for scope, share in parts.get(name, {OTHER: 1.0}).items():
                total[scope] += share * float(credit)
    total[IDLE] = max(seconds - sum(total.values()), 0.0)
    return total


def _runs(trace: Path, module: str) -> list[list[tuple[str, float, float]]]:
    """(instruction, start, stop) in ns of each run of one, by device; containers are among them."""
    (path,) = trace.glob("**/*.xplane.pb")
    planes = {}
    for plane in ProfileData.from_file(str(path)).planes:
        runs: dict[int | None, list[tuple[str, float, float]]] = collections.defaultdict(list)
        ends: dict[int | None, float] = {}
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if event.name.startswith("end: "):
                    # A CPU's instruction that went on in other threads after its call returned.
                    ends[stats.get("_c")] = event.start_ns
                elif "hlo_op" in stats and stats.get("hlo_module", module).startswith(module):
                    run = (stats["hlo_op"], event.start_ns, event.start_ns + event.duration_ns)
                    runs[stats.get("_p")].append(run)
                elif line.name == "XLA Ops":  # of a TPU: `%name = type opcode(...)`
                    name = event.name.split(" ")[0].lstrip("%")
                    run = (name, event.start_ns, event.start_ns + event.duration_ns)
                    runs[None].append(run)
        whole = [
            (name, start, max(stop, ends.get(key, stop)))
            for key, group in runs.items()
            for name, start, stop in group
        ]
        if whole:
            planes[plane.name] = whole
    devices = [runs for name, runs in planes.items() if name.startswith("/device:")]
    return devices or list(planes.values())


def _credits(spans: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    """How much of the time belongs to each span, where those that overlap share it equally."""
    if not len(spans):
        return np.zeros(0)
    times = np.unique(spans)
    border = np.searchsorted(times, spans)
    change = np.zeros(len(times))
    np.add.at(change, border[:, 0], 1)
    np.add.at(change, border[:, 1], -1)
    active = np.cumsum(change)[:-1]
    credit = np.where(active > 0, np.diff(times) / np.maximum(active, 1), 0.0)
    until = np.concatenate([[0.0], np.cumsum(credit)])
    return until[border[:, 1]] - until[border[:, 0]]
