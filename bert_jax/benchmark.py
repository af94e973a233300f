"""Measure the training step: `python -m bert_jax.benchmark --config=FILE[:arg] [--steps=20]`.

Compiles the step that `bert_jax.train` runs and times it in each phase of the run, or in that of
`--phase`, on random batches or on real ones (`--batches=real --workdir=DIR`); needs neither a
corpus nor TensorFlow. Prints speed, MFU, memory and the time of each part. `--largest_batch` finds
the largest batch that fits; `--compare` runs `transformers` on the same batches, in turns.
docs/step.md explains each figure.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from bert_jax.common import command_line, compile_cache, memory
from bert_jax.common.atomic import write_text
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings, parse
from bert_jax.performance import capacity, peers, profiling
from bert_jax.performance.machine import load, machine, versions
from bert_jax.performance.measuring import (
    BATCHES,
    Measurement,
    Runner,
    Source,
    mean_tokens,
    measure,
    peak_of,
    real,
    synthetic,
)
from bert_jax.run import distilling
from bert_jax.stream.phases import Phase
from bert_jax.training.sharding import parts_of_batch

FLAGS = flags.FLAGS
GIB = 2.0**30
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")


def chosen(settings: RunSettings, index: int | None) -> list[Phase]:
    """The phases to measure.

    Raises:
      UserError: there is no such phase.
    """
    phases = list(settings.stream.phases)
    if index is None:
        return phases
    if not 0 <= index < len(phases):
        raise UserError(f"--phase={index}: the config's phases are 0 to {len(phases) - 1}")
    return [phases[index]]


def table(measurements: Sequence[Measurement]) -> str:
    """The figures of the phases side by side."""
    columns = [_figures(measurement) for measurement in measurements]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [
        f"{name:<38}" + "".join(f"{column.get(name, '-'):>24}" for column in columns)
        for name in names
    ]
    return "\n".join([*rows, "", f"MFU: of {measurements[0].peak_source}"])


def _figures(measured: Measurement) -> dict[str, str]:
    """The column of a phase: cell by line name."""
    values = measured.summary()
    median, low, high, best = (
        1e3 * values[f"step_seconds_{name}"] for name in ("median", "p10", "p90", "best")
    )
    total = sum(measured.part_seconds.values())
    figures = {
        "phase": str(measured.phase),
        "rows x tokens": f"{measured.global_batch_size} x {measured.sequence_length}",
        "attention by": measured.attention,
        "compile time"
        + ", read from the cache" * measured.is_cached: f"{measured.compile_seconds:.1f} s",
        "step, median": f"{median:.1f} ms",
        "  10 % and 90 % of the steps below": f"{low:.1f}, {high:.1f} ms",
        "  best": f"{best:.1f} ms",
        "tokens/s (without padding)": f"{values['tokens_per_second']:,.0f}",
        "sequences/s": f"{values['sequences_per_second']:,.1f}",
        "MFU": f"{measured.mfu:.1%}",
        "  products of real tokens": _gflop(measured.real_flops),
        "  products of whole rows": _gflop(measured.row_flops),
        "  all operations (compiler's count)": _gflop(measured.compiler_flops),
        "  a device's peak": f"{measured.peak / 1e12:,.3f} TFLOP/s",
        "memory of the program, a device": _bytes(measured.program_bytes),
    }
    if measured.device_peak_bytes is not None:
        figures["  peak of a device's allocator"] = _bytes(measured.device_peak_bytes)
    figures |= {
        "  peak of the process": _bytes(measured.process_peak_bytes),
        "time by part, steps one by one": f"{1e3 * total:.1f} ms",
    }
    for part, seconds in measured.part_seconds.items():
        name = profiling.PARTS.get(part, part)
        figures[f"  {name}"] = f"{1e3 * seconds:.1f} ms {seconds / total:6.1%}"
    return figures


def _gflop(count: float) -> str:
    return f"{count / 1e9:,.{1 if count > 1e10 else 4}f} GFLOP"


def _bytes(size: int) -> str:
    return f"{size / GIB:.2f} GiB" if size > GIB / 10 else f"{size / 2**20:.2f} MiB"


def largest_table(largest: dict[int, capacity.LargestBatch]) -> str:
    """The largest batches that fit, by phase."""
    return "\n".join(
        f"phase {phase}: {batch.rows:,} rows fit into {_bytes(batch.limit_bytes)} a device, "
        f"{batch.too_many:,} do not (compiled for "
        + ", ".join(str(rows) for rows in batch.tried)
        + ")"
        for phase, batch in largest.items()
    )


def find_largest(runner: Runner, phase: Phase, limit_gib: float | None) -> capacity.LargestBatch:
    """The largest global batch of a phase's rows that fits into the devices."""
    device = runner.mesh.devices.flat[0]
    limit = capacity.device_memory(device) if limit_gib is None else int(limit_gib * GIB)
    unit = parts_of_batch(runner.mesh, runner.settings.training.mesh.micro_batches)
    return capacity.largest_batch(
        lambda rows: runner.compile(dataclasses.replace(phase, global_batch_size=rows)).program,
        unit,
        limit,
    )


def define_flags() -> None:
    flags.DEFINE_integer(
        "steps", 20, "Number of steps to time, in each phase; with --compare in each turn"
    )
    flags.DEFINE_integer("phase", None, "Measure only this phase: 0, 1, ... Default: all")
    flags.DEFINE_enum(
        "batches",
        "synthetic",
        ["synthetic", "real"],
        "Random batches, or those of the token store in --workdir",
    )
    flags.DEFINE_boolean(
        "measure_peak", False, "MFU relative to a measured rate of products, not to the data sheet"
    )
    flags.DEFINE_boolean("largest_batch", False, "Find the largest batch that fits")
    flags.DEFINE_float(
        "memory_gib", None, "Memory of a device for --largest_batch. Default: all of it"
    )
    flags.DEFINE_boolean("compare", False, "Measure the same model in transformers too, in turns")
    flags.DEFINE_list("peers", peers.DEFAULT, f"For --compare: {', '.join(peers.SIDES)}")
    flags.DEFINE_integer("rounds", 6, "For --compare: number of turns of each side")
    flags.DEFINE_string("json", None, "File to write the figures to, too")
    flags.DEFINE_string("side", None, "(internal) the side of --compare that this process is")


def check_flags() -> None:
    """Check the values of the flags.

    Raises:
      UserError: names the flag.
    """
    for name in ("steps", "rounds"):
        if getattr(FLAGS, name) < 1:
            raise UserError(f"--{name}={getattr(FLAGS, name)}: take 1 or more")
    if unknown := [name for name in FLAGS.peers if name not in peers.SIDES]:
        raise UserError(f"--peers={unknown[0]}: choose from {', '.join(peers.SIDES)}")


def beside_peers(source: Source, selected: Sequence[Phase]) -> dict[str, Any]:
    """Print and return the figures of all sides by phase; this process itself uses no device."""
    results = []
    for phase in selected:
        tokens = mean_tokens(list(itertools.islice(source.batches(phase), BATCHES)))
        results.append(peers.compare(FLAGS.peers, phase, tokens, FLAGS.rounds, FLAGS.steps))
        print(peers.table(results[-1]), flush=True)
    return {"compare": [[dataclasses.asdict(side) for side in sides] for sides in results]}


def alone(settings: RunSettings, source: Source, selected: Sequence[Phase]) -> dict[str, Any]:
    """Print and return the figures of our step by phase."""
    cache_directory = compile_cache.use(FLAGS.compile_cache)
    # By default a cached program may come from code with other scopes, which the profile would
    # show.
    jax.config.update("jax_compilation_cache_include_metadata_in_key", True)
    runner = Runner(settings, source)
    device = runner.mesh.devices.flat[0]
    peak = peak_of(device, runner.model.compute_dtype, is_measured=FLAGS.measure_peak)
    measured = [measure(runner, phase, FLAGS.steps, peak) for phase in selected]
    print(f"{len(runner.mesh.devices.flat)} x {device.device_kind}\n\n{table(measured)}")
    report = {
        "device": device.device_kind,
        "compile_cache": cache_directory,
        "phases": [each.summary() for each in measured],
    }
    if FLAGS.largest_batch:
        largest = {phase.index: find_largest(runner, phase, FLAGS.memory_gib) for phase in selected}
        report["largest_batch"] = {k: dataclasses.asdict(v) for k, v in largest.items()}
        print(largest_table(largest))
    return report


def main() -> None:
    check_flags()
    if peers.is_ours(FLAGS.side):
        memory.keep_freed_memory()  # as in training; peers run with their defaults
    config = command_line.config()
    settings = parse(config, distilling.load(config))
    selected = chosen(settings, FLAGS.phase)
    is_real = FLAGS.batches == "real"
    source = real(settings, command_line.workdir()) if is_real else synthetic(settings)
    if FLAGS.side:
        return peers.serve(FLAGS.side, settings, source, selected[0])
    report: dict[str, Any] = {
        "machine": machine(),
        "load": load(),
        "versions": versions(PACKAGES),
        "batches": FLAGS.batches,
        "config": config.to_dict(),
    }
    print(f"{report['machine']}; " + ", ".join(f"{k} {v}" for k, v in report["versions"].items()))
    report |= beside_peers(source, selected) if FLAGS.compare else alone(settings, source, selected)
    if FLAGS.json:
        write_text(Path(FLAGS.json), json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    command_line.define_config()
    command_line.define_compile_cache()
    define_flags()
    command_line.run(main)
