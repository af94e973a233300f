"""How the process uses its memory."""

import ctypes

from bert_jax.common import platforms


def keep_freed_memory() -> bool:
    """Let the C library keep memory that the process frees, if JAX computes on a CPU.

    XLA allocates a step's large buffers anew at every step on a CPU; with glibc's defaults each
    comes from the kernel, zeroed page by page, which costs a tenth of the time or more. Hosts of
    accelerators allocate little, from many threads that a single arena would slow down: nothing
    changes there, nor without glibc.

    Returns:
      Whether the settings apply.
    """
    if platforms.expected() != "cpu":
        return False
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(arena_max, 1)
    return True
