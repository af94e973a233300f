"""The memory that a step takes, and the largest batch that fits."""

import dataclasses
import os
from collections.abc import Callable

import jax

from bert_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """Rows of the largest global batch that fits.

    Attributes:
      rows: how many.
      too_many: the fewest that were tried and do not fit.
      limit_bytes: of a device's memory.
      tried: by rows, the bytes that a device needs, for each size that was compiled; None: the
        compiler refused it.
    """

    rows: int
    too_many: int
    limit_bytes: int
    tried: dict[int, int | None]


def bytes_in_use(step: jax.stages.Compiled) -> int:
    """Bytes of a device's memory for arguments, results and temporaries, as compiled."""
    memory = step.memory_analysis()
    if memory is None:
        raise ValueError("the compiler does not report its memory")
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes  # results that reuse the memory of arguments
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def device_memory(device: jax.Device) -> int:
    """Bytes that the step may take of a device; on a CPU all of the machine's.

    Devices that share a CPU's memory get equal shares of it.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        return int(limit)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total // jax.local_device_count()


def largest_batch(
    compile_rows: Callable[[int], jax.stages.Compiled], unit: int, limit: int
) -> LargestBatch:
    """Double the batch until it does not fit, then halve the gap until it is an eighth of it.

    Args:
      compile_rows: compiles the step for this many rows.
      unit: rows that the batch must be a multiple of; tried first.
      limit: bytes of a device.

    Raises:
      UserError: not even `unit` rows fit.
    """
    tried: dict[int, int | None] = {}

    def fits(rows: int) -> bool:
        try:
            tried[rows] = bytes_in_use(compile_rows(rows))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            tried[rows] = None
        size = tried[rows]
        return size is not None and size <= limit

    too_many = unit
    while fits(too_many):
        too_many *= 2
    if too_many == unit:
        raise UserError(
            f"not even {unit} rows fit into {limit / 2**30:.2f} GiB: take shorter rows, a smaller "
            "model, config.model.rematerialization, or more devices with config.mesh.fsdp"
        )
    rows = too_many // 2
    while too_many - rows > max(unit, rows // 8):
        middle = (rows + too_many) // (2 * unit) * unit
        rows, too_many = (middle, too_many) if fits(middle) else (rows, middle)
    return LargestBatch(rows, too_many, limit, tried)
