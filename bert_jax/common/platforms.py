"""The kind of device that JAX will use, determined without starting its backends."""

import importlib.metadata
import importlib.util
from pathlib import Path

import jax

GOOGLE = "0x1ae0"  # PCI vendor
ROOT = Path("/")


def expected(root: Path = ROOT) -> str:
    """The platform of JAX's default devices: cpu, gpu or tpu, by its settings, else the hardware.

    Args:
      root: where /dev and /sys are.
    """
    if named := _named():
        first = named.split(",")[0]
        return "gpu" if first in ("cuda", "rocm") else first
    if has_tpu(root) and _has_libtpu():
        return "tpu"
    return "gpu" if has_gpu(root) and _plugins() else "cpu"


def hide_missing_tpu(root: Path = ROOT) -> None:
    """Keep JAX from starting libtpu on a machine without TPUs; must run before any device query.

    libtpu (of `jax[tpu]`) prints several lines of errors to stderr there. Nothing changes where
    JAX_PLATFORMS is set, libtpu is missing, a TPU is there, or an unknown kind of device may be.
    """
    plugins = _plugins()
    is_known = all("cuda" in name for name in plugins)
    if _named() or not _has_libtpu() or has_tpu(root) or not is_known:
        return
    jax.config.update("jax_platforms", "cuda,cpu" if plugins and has_gpu(root) else "cpu")


def has_tpu(root: Path = ROOT) -> bool:
    """Whether TPU chips are attached: their device files, or PCI devices of their vendor."""
    if any((root / "dev").glob("accel*")) or any((root / "dev/vfio").glob("[0-9]*")):
        return True
    vendors = (root / "sys/bus/pci/devices").glob("*/vendor")
    return any(_read(vendor).strip() == GOOGLE for vendor in vendors)


def has_gpu(root: Path = ROOT) -> bool:
    """Whether there are GPUs: NVIDIA's device files (WSL's is dxg), or AMD's."""
    dev = root / "dev"
    return any(dev.glob("nvidia[0-9c]*")) or any((dev / name).exists() for name in ("dxg", "kfd"))


def _named() -> str | None:
    """What JAX_PLATFORMS or `jax.config.update` has named, separated by commas."""
    return jax.config.jax_platforms  # type: ignore[attr-defined]


def _has_libtpu() -> bool:
    return importlib.util.find_spec("libtpu") is not None


def _plugins() -> list[str]:
    """The devices that JAX has plugins for: xla_cuda12, ..."""
    return [entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
