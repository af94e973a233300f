"""Compiled programs kept on disk, so that a second start of a run compiles nothing.

A program that is read again is the one that was written, byte for byte, so a resumed run computes
what the interrupted one would have. (On GPUs a new compilation does not promise that: it picks
kernels by timing them.) JAX keys the programs by their operations, shapes, devices, compiler flags
and versions; a subdirectory is named after the processor, for which programs for CPUs are compiled
(except where JAX_COMPILATION_CACHE_DIR names the directory: JAX uses that one as it is). The
directory can be deleted at any time.
"""

import hashlib
import os
import platform
import re
import tempfile
from pathlib import Path

import jax

from bert_jax.common import console, processes

OFF = "off"


def use(directory: str | None) -> str | None:
    """Save the programs that this process compiles, and read those that are saved.

    Programs that compile in less than a second are not kept (JAX's default). JAX lets process 0
    alone write. If one of several processes does not see its files, none uses the cache: one that
    reads its program would wait for those that compile theirs, and on GPUs, where processes share
    the timing of kernels, they for it.

    Args:
      directory: None: the default; "off": keep and read nothing.

    Returns:
      The directory; None where nothing is kept.
    """
    path = None if directory == OFF else _directory(directory)
    # A bucket, which JAX opens itself, is seen by all.
    if path and jax.process_count() > 1 and "://" not in path:
        place = Path(path)
        problem = processes.of_first(lambda: _problem(place), f"make {path}")
        if not problem and (blind := processes.blind_to(place)):
            problem = f"{', '.join(blind)} does not see {path} of process 0"
        if problem:
            console.say(
                f"Note: no compiled programs are kept: {problem}. Give --compile_cache=DIR on a "
                "file system that all share"
            )
            path = None
    if path:
        jax.config.update("jax_compilation_cache_dir", path)
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    return path


def _directory(directory: str | None) -> str:
    if directory is None and (chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR")):
        return chosen
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(directory) if directory else Path(base) / "bert_jax" / "compiled"
    return str(root / processor())


def _problem(directory: Path) -> str:
    """Why nothing can be written to the directory, which is made; empty: it can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return ""
    except OSError as error:
        return f"{directory} cannot be written to ({error.strerror})"


def processor() -> str:
    """Architecture and a hash of the instruction sets of this machine's processor."""
    try:
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        flags = None
    features = hashlib.sha256((flags[1] if flags else "").encode()).hexdigest()
    return f"{platform.machine()}-{features[:8]}"


class Watch:
    """Counts the programs that this process reads instead of compiling them, inside `with`."""

    def __init__(self):
        """Starts at zero."""
        self.read = 0

    def __enter__(self) -> "Watch":
        jax.monitoring.register_event_listener(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_listener(self._count)

    def _count(self, event: str, **_: str | int) -> None:
        self.read += event == "/jax/compilation_cache/cache_hits"
