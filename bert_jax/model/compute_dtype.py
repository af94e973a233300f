"""What `config.model.compute_dtype=auto` means on the devices of a run."""

from pathlib import Path
from typing import Any

from bert_jax.model.placement import platform_of

AUTO = "auto"
# Flags in /proc/cpuinfo of processors that multiply bfloat16 faster than float32.
CPU_FLAGS = ("amx_bf16", "avx512_bf16")
CPU_INFO = Path("/proc/cpuinfo")
LEAST_CUDA_CAPABILITY = 8.0  # Ampere; earlier GPUs compute bfloat16 in float32


def fast_dtype(device: Any, cpu_info: Path = CPU_INFO) -> str:
    """`bfloat16` where the device's matrix products are fast in it, else `float32`.

    Args:
      device: of the run, a `jax.Device`.
      cpu_info: the kernel's description of the processors.
    """
    platform = platform_of(device)
    if platform == "cpu":
        try:
            flags = cpu_info.read_text()
        except OSError:  # not Linux
            return "float32"
        is_fast = any(f" {flag}" in flags for flag in CPU_FLAGS)
    elif platform == "gpu":
        is_fast = float(getattr(device, "compute_capability", 0)) >= LEAST_CUDA_CAPABILITY
    else:
        is_fast = True
    return "bfloat16" if is_fast else "float32"
