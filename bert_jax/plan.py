"""Plan a run on TPUs: `python -m bert_jax.plan --config=configs/bert.py:large --topology=v5e:4x4`.

Compiles the run's training step for a slice of TPU chips, on this machine and without TPUs. Prints
the memory, FLOPs and communication of a chip, whether the step fits, the predicted step time, and
its scaling. Compiled and predicted, not run; the formulas are in docs/scaling.md.
"""

import dataclasses
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from bert_jax.common import command_line, console
from bert_jax.common.atomic import write_text
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings, parse
from bert_jax.model import ModelConfig
from bert_jax.model.compute_dtype import AUTO, fast_dtype
from bert_jax.performance import flops, hlo, scaling, topology
from bert_jax.performance.topology import GIB, Slice
from bert_jax.run import distilling
from bert_jax.stream.phases import Phase
from bert_jax.training import sharding
from bert_jax.training.preflight import attention_names, check, vocab_size
from bert_jax.training.step import abstract_batch, compile_steps


@dataclasses.dataclass(frozen=True)
class Plan:
    """One phase of a run, compiled for a slice. Bytes, FLOPs and seconds are a chip's in a step.

    Attributes:
      topology: the slice.
      mesh: sizes of the mesh's axes.
      sequence_length: L.
      global_batch_size: B.
      arguments: bytes of the state and the batch.
      temporaries: bytes of everything else; the results overwrite the state.
      program: bytes of the program itself.
      memory: bytes that the chip has.
      attention: the backends of the layers.
      flops: of matrix products, by the model's count (`bert_jax.performance.flops`).
      compiler_flops: of all operations, by the compiler's count.
      bytes_accessed: bytes of all operands and results, in any memory, as the compiler counts.
      memory_traffic: bytes to and from the main memory (`hlo.memory_traffic`).
      collectives: the exchanges.
      compile_seconds: on this machine.
      times: predicted.
      scaling: predicted times by the number of chips.
    """

    topology: str
    mesh: dict[str, int]
    sequence_length: int
    global_batch_size: int
    arguments: int
    temporaries: int
    program: int
    memory: float
    attention: str
    flops: float
    compiler_flops: float
    bytes_accessed: float
    memory_traffic: float
    collectives: tuple[hlo.Collective, ...]
    compile_seconds: float
    times: scaling.Times
    scaling: dict[int, scaling.Times]

    @property
    def used(self) -> int:
        """Bytes of a chip's memory in use at most."""
        return self.arguments + self.temporaries + self.program

    @property
    def mfu(self) -> float:
        """Predicted share of the chip's peak."""
        return self.times.products / self.times.step


def plan(settings: RunSettings, grid: Slice) -> list[Plan]:
    """Compile the training step of each phase for a slice.

    Raises:
      UserError: the mesh or the batch does not divide, the step does not fit, or the TPU compiler
        is not installed.
    """
    devices = topology.devices(grid)
    if settings.model["compute_dtype"] == AUTO:  # of those devices, not of this machine's
        dtype = {"compute_dtype": fast_dtype(devices[0])}
        settings = dataclasses.replace(settings, model={**settings.model, **dtype})
    phases = settings.stream.phases
    mesh = sharding.make_mesh(settings.training.mesh, devices)
    models = settings.models(vocab_size(settings.corpus.tokenizer))
    check(settings.training, phases, models, mesh)
    return [
        _plan(settings, grid, mesh, phase, model)
        for phase, model in zip(phases, models, strict=True)
    ]


def compiled(
    settings: RunSettings,
    mesh: jax.sharding.Mesh,
    phase: Phase,
    model: ModelConfig,
    compiler_options: Mapping[str, Any] | None = None,
) -> jax.stages.Compiled:
    """The training step of a phase, compiled for a mesh of devices that this machine need not have.

    Raises:
      UserError: the step does not fit into a device's memory.
    """
    steps = compile_steps(settings.training, model, mesh)
    batch = abstract_batch(settings.objective, mesh, phase)
    lowered = steps.train.lower(steps.abstract_state, batch)
    try:
        return lowered.compile(dict(compiler_options or {}))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = re.search(r"Used (\S+) of (\S+) hbm", str(error))
        amount = f": it needs {needed[1]} of {needed[2]}" if needed else ""
        raise UserError(
            f"a step of {phase.global_batch_size} rows of {phase.sequence_length} tokens does not "
            f"fit into a chip{amount}. Set config.mesh.fsdp or config.mesh.micro_batches higher, "
            "config.global_batch_size lower, or take more chips"
        ) from error


def _plan(
    settings: RunSettings, grid: Slice, mesh: jax.sharding.Mesh, phase: Phase, model: ModelConfig
) -> Plan:
    start = time.perf_counter()
    step = compiled(settings, mesh, phase, model)
    seconds = time.perf_counter() - start
    text, memory, cost = step.as_text(), step.memory_analysis(), step.cost_analysis()
    if not (text and memory and cost):
        raise ValueError("the TPU compiler does not report its program, its memory or its cost")
    row = flops.training(model, phase.sequence_length, phase.max_predictions)
    work = scaling.Work(
        flops=row * phase.global_batch_size / grid.chips,
        memory_traffic=hlo.memory_traffic(text),
        cycles=hlo.estimated_cycles(text),
        collectives=tuple(hlo.collectives(text)),
    )
    coordinates = [device.coords for device in mesh.devices.flat]
    sizes = tuple(mesh.devices.shape)
    axis = next((axis for axis in (0, 1) if sizes[axis] > 1), None)  # data, else fsdp
    return Plan(
        topology=str(grid),
        mesh=dict(mesh.shape),
        sequence_length=phase.sequence_length,
        global_batch_size=phase.global_batch_size,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        memory=grid.chip.memory,
        attention=attention_names(model, mesh, phase),
        flops=work.flops,
        compiler_flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
        memory_traffic=work.memory_traffic,
        collectives=work.collectives,
        compile_seconds=seconds,
        times=scaling.times(work, grid, coordinates),
        scaling={}
        if axis is None
        else scaling.weak_scaling(work, grid, coordinates, math.prod(sizes[axis + 1 :])),
    )


def describe(plans: Sequence[Plan]) -> str:
    """The plans of a run's phases side by side."""
    first = plans[0]
    sizes = " x ".join(f"{axis}={size}" for axis, size in first.mesh.items())
    columns = [_figures(plan) for plan in plans]
    names = dict.fromkeys(name for column in columns for name in column)
    lines = [f"{first.topology}, mesh {sizes}: compiled and predicted, not run", ""]
    for name in names:
        cells = "".join(f"{column.get(name, '-'):>22}" for column in columns)
        lines.append(f"{name:<36}{cells}")
    return "\n".join(lines)


def _figures(plan: Plan) -> dict[str, str]:
    """The column of a plan: cell by line name."""
    chips = math.prod(plan.mesh.values())
    times = plan.times
    figures = {
        "rows x tokens": f"{plan.global_batch_size} x {plan.sequence_length}",
        "attention by": plan.attention,
        "compile time": f"{plan.compile_seconds:.0f} s",
        "memory in use": f"{_gib(plan.used)} of {_gib(plan.memory)}",
        "  state and batch": _gib(plan.arguments),
        "  temporaries": _gib(plan.temporaries),
        "  program": _gib(plan.program),
        "matrix products (model's count)": f"{plan.flops / 1e12:.3f} TFLOP",
        "all operations (compiler's count)": f"{plan.compiler_flops / 1e12:.3f} TFLOP",
        "main memory's traffic": f"{plan.memory_traffic / 1e9:.2f} GB",
        "operands' bytes (compiler's count)": f"{plan.bytes_accessed / 1e9:.2f} GB",
    }
    for (kind, members), group in _by_kind(plan.collectives).items():
        total = sum(collective.total for collective in group) / 1e6
        count = sum(collective.times for collective in group)
        figures[f"{kind} among {members} chips"] = f"{count} times, {total:.2f} MB"
    figures |= {
        "predicted step": f"{times.step * 1e3:.1f} ms",
        "  matrix products at the peak": f"{times.products * 1e3:.1f} ms",
        "  main memory at its bandwidth": f"{times.memory * 1e3:.1f} ms",
        "  compiler's estimate": f"{times.compiler * 1e3:.1f} ms",
        "  exchanges, exposed": f"{times.exposed * 1e3:.1f} ms",
        "  exchanges, hidden": f"{times.hidden * 1e3:.1f} ms",
        "  no less than (roofline)": f"{times.bound * 1e3:.1f} ms",
        "predicted share of the peak (MFU)": f"{plan.mfu:.0%}",
        "predicted sequences/s": f"{plan.global_batch_size / times.step:,.0f}",
        "predicted sequences/s a chip": f"{plan.global_batch_size / times.step / chips:,.1f}",
    }
    for count, predicted in plan.scaling.items():
        figures[f"weak scaling, {count} chips"] = f"{predicted.efficiency:.1%}"
    return figures


def _by_kind(
    collectives: Sequence[hlo.Collective],
) -> dict[tuple[str, int], list[hlo.Collective]]:
    groups: dict[tuple[str, int], list[hlo.Collective]] = {}
    for collective in collectives:
        groups.setdefault((collective.kind, len(collective.group)), []).append(collective)
    return dict(sorted(groups.items()))


def _gib(size: int | float) -> str:
    return f"{size / GIB:.2f} GiB"


def to_json(plans: Sequence[Plan]) -> str:
    """The plans as JSON text; the exchanges with their arrays, the predictions with their parts."""
    return json.dumps([dataclasses.asdict(plan) for plan in plans], indent=1) + "\n"


def define_flags() -> None:
    """Define `--topology` and `--json`."""
    flags.DEFINE_string(
        "topology", "v5e:4x4", "The slice: v5e:4x4, v5p:4x4x4, v6e:16x16, v4:2x2x4, ..."
    )
    flags.DEFINE_string("json", None, "File to write the figures to, too")


def main() -> None:
    """Print the plans, and write them where --json says."""
    console.begin(f"Compiling the step for {flags.FLAGS.topology}; large models take minutes")
    config = command_line.config()
    plans = plan(parse(config, distilling.load(config)), Slice.parse(flags.FLAGS.topology))
    console.say(describe(plans))
    if flags.FLAGS.json:
        write_text(Path(flags.FLAGS.json), to_json(plans))


if __name__ == "__main__":
    command_line.define_config()
    define_flags()
    command_line.run(main)
