"""Who holds a lock, and whether it lives: what locks in files and in buckets have in common."""

import json
import os
import socket
import time
from typing import Any

from bert_jax.common.errors import UserError

HEARTBEAT = 10.0  # seconds between two signs of life of a lease
STALE = 120.0  # seconds without one after which a lease is void: no disk hangs that long

Holder = dict[str, Any]  # what it wrote into the lock: host, machine, pid, job, since


class Watch:
    """Decides about the holder of a lock that this process wants: refuse, wait or take over."""

    def __init__(self, refusal: str):
        """`refusal`: what to say when the holder lives; its name is appended."""
        self.refusal = refusal
        self._sign: str | None = None  # the last sign of life
        self._since = 0.0  # when it was first seen
        self._is_said = False

    def wait(self, holder: Holder, place: object) -> None:
        """Wait for a holder that lives, if it is an earlier start of the same job.

        Raises:
          UserError: it is not.
        """
        if not job() or holder.get("job") != job():
            raise UserError(f"{self.refusal} ({describe(holder, place)})")
        self._say(f"which {job()} started before; waiting for its end", holder, place)

    def is_void(self, holder: Holder, sign: str, place: object) -> bool:
        """Whether a lease may be taken over; if not yet, look again later.

        Args:
          holder: of the lease.
          sign: changes with each sign of life.
          place: of the lease, for messages.

        Raises:
          UserError: it lives, and is not an earlier start of this job.
        """
        if has_died_here(holder):
            return True
        gave_sign = self._sign not in (None, sign)
        if sign != self._sign:
            self._sign, self._since = sign, time.monotonic()
        if gave_sign or runs_here(holder):
            self.wait(holder, place)
            return False
        self._say(
            f"which may be dead; taking over if it is silent for {STALE:.0f} s", holder, place
        )
        return time.monotonic() - self._since > STALE

    def _say(self, what: str, holder: Holder, place: object) -> None:
        if not self._is_said:
            print(f"The workdir is locked by {describe(holder, place)}, {what}.", flush=True)
        self._is_said = True


def signature() -> bytes:
    """What the holder of a lock writes into it."""
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return json.dumps(me() | {"job": job(), "since": since}).encode()


def me() -> Holder:
    """The host, machine and process id of this process."""
    host = socket.gethostname()
    try:
        # Process ids are compared only where they count the same processes: containers of one
        # host may share its name.
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return {"host": host, "machine": f"{host} {processes}", "pid": os.getpid()}


def job() -> str:
    """The scheduler's job that this process is of, the same after a requeue; else empty."""
    number = os.environ.get("SLURM_JOB_ID")
    return f"SLURM job {number}" if number else os.environ.get("JOBSET_NAME", "")


def parse(content: bytes) -> Holder:
    """What a holder wrote; nothing while it is being written."""
    try:
        holder = json.loads(content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) and {"host", "pid"} <= holder.keys() else {}


def describe(holder: Holder, place: object) -> str:
    """The holder of the lock at `place`, for messages."""
    if not holder:
        return f"lock: {place}"
    since = holder.get("since", "an unknown time")
    return f"process {holder['pid']} on {holder['host']}, since {since}; lock: {place}"


def has_died_here(holder: Holder) -> bool:
    """Whether the holder was a process of this machine, and is none any more."""
    return holder.get("machine") == me()["machine"] and not _is_process(holder["pid"])


def runs_here(holder: Holder) -> bool:
    """Whether the holder is a process of this machine."""
    return holder.get("machine") == me()["machine"] and _is_process(holder["pid"])


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True
