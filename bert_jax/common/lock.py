"""A lock file that one process at a time holds, on every kind of file system."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from bert_jax.common.errors import UserError

# Errors of flock where it is not supported: Lustre mounted without it (ENOSYS), some FUSE and cloud
# file systems (EOPNOTSUPP), NFS without a lock daemon (ENOLCK).
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)

HEARTBEAT = 10.0  # seconds between two signs of life of a lease
STALE = 120.0  # seconds without one after which a lease is void: no disk hangs that long


@contextlib.contextmanager
def exclusive(path: Path, refusal: str) -> Iterator[None]:
    """Holds the lock file `path` during the block; the file is gone afterwards.

    Where the file system has `flock`, the kernel frees the lock of a process that ends in any way.
    Elsewhere `<path>.lease` is created, and touched every HEARTBEAT seconds; a lease is void when
    its process has died on this machine, or when it was not touched for STALE seconds.

    Args:
      path: of the lock file, which has no other purpose; its directory exists.
      refusal: what to say when another process holds the lock; the holder is appended.

    Raises:
      UserError: another process holds the lock, or the file cannot be created.
    """
    try:
        file = _flock(path, refusal)
        if file is None:
            path = path.with_name(path.name + ".lease")
            file = _lease(path, refusal)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise UserError(f"the lock {path} cannot be created: {error.strerror}") from error
    stopped = threading.Event()
    keeper = threading.Thread(target=_keep_alive, args=(file, stopped), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopped.set()
        keeper.join()
        if _is_at(file, path):
            path.unlink()  # while it is still locked: see _flock
        os.close(file)


def _flock(path: Path, refusal: str) -> int | None:
    """A descriptor of `path` with an exclusive flock, or None where there is no flock."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise UserError(f"{refusal} ({_holder(path)})") from error
        except OSError as error:
            os.close(file)
            if error.errno not in _UNSUPPORTED:
                raise
            path.unlink(missing_ok=True)
            return None
        if _is_at(file, path):
            return _signed(file, path)
        os.close(file)  # its holder removed it between our opening and our locking it


def _lease(path: Path, refusal: str) -> int:
    """A descriptor of `path`, which this process alone has created."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not _is_void(path):
                raise UserError(f"{refusal} ({_holder(path)})") from None
            _remove_void(path, refusal)
        else:
            return _signed(file, path)


def _signed(file: int, path: Path) -> int:
    """`file`, with this process written into it; removed again where the disk is full."""
    try:
        os.ftruncate(file, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S %z")
        os.write(file, json.dumps(_me() | {"since": since}).encode())
    except OSError:
        path.unlink(missing_ok=True)
        os.close(file)
        raise
    return file


def _remove_void(path: Path, refusal: str) -> None:
    """Removes a void lease; of several processes that find it void, one does at a time.

    Without this order, the second one would remove the lease that the first has just created.
    """
    guard = path.with_name(path.name + ".takeover")
    try:
        os.close(os.open(guard, os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        raise UserError(
            f"{refusal} (it is just taking over {path}; if no such process exists, remove {guard})"
        ) from None
    try:
        if _is_void(path):
            path.unlink(missing_ok=True)
    finally:
        guard.unlink()


def _is_void(path: Path) -> bool:
    try:
        touched = path.stat().st_mtime
        holder = _read(path)
    except FileNotFoundError:
        return True
    me = _me()
    if holder.get("machine") == me["machine"] and not _is_alive(holder["pid"]):
        return True
    return _file_system_time(path) - touched > STALE


def _file_system_time(path: Path) -> float:
    """The time by the clock that stamps files beside `path`: a server's clock may be another."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _me() -> dict[str, str | int]:
    host = socket.gethostname()
    try:
        # Process ids are compared only where they count the same processes: containers of one
        # host may share its name.
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return {"host": host, "machine": f"{host} {processes}", "pid": os.getpid()}


def _read(path: Path) -> dict:
    """What the holder wrote; nothing while it is being written."""
    try:
        holder = json.loads(path.read_text())
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) and {"host", "pid"} <= holder.keys() else {}


def _holder(path: Path) -> str:
    try:
        holder = _read(path)
    except OSError:
        holder = {}
    if not holder:
        return f"lock: {path}"
    since = holder.get("since", "an unknown time")
    return f"process {holder['pid']} on {holder['host']}, since {since}; lock: {path}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _keep_alive(file: int, stopped: threading.Event) -> None:
    # By descriptor: were the lease taken over, the new holder's must not be kept alive.
    while not stopped.wait(HEARTBEAT):
        with contextlib.suppress(OSError):  # a server that is away for a moment
            os.utime(file)
