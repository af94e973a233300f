"""How the process uses its memory."""

import ctypes


def keep_freed_memory() -> None:
    """Let the C library keep what the process frees, instead of handing it back to the kernel.

    XLA allocates a step's large buffers anew at every step on a CPU; with glibc's defaults each
    comes from the kernel, zeroed page by page, which costs a tenth of the time and more. Elsewhere
    than on glibc nothing happens.
    """
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(arena_max, 1)
