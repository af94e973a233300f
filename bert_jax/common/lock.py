"""A lock that one process at a time holds, on every kind of file system and in a bucket.

A second process is refused, unless the first one may be about to end: if it belongs to the same job
of the scheduler, which was requeued, or is on another host and may have died, the second one waits.
"""

import contextlib
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from bert_jax.common import bucket_lock, lease, processes
from bert_jax.common.bucket import AnyPath
from bert_jax.common.errors import UserError
from bert_jax.common.lease import STALE, Watch

# Errors of flock where it is not supported: Lustre mounted without it (ENOSYS), some FUSE and cloud
# file systems (EOPNOTSUPP), NFS without a lock daemon (ENOLCK).
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)
NO_FLOCK = -1  # for a descriptor: the file system has no flock


@contextlib.contextmanager
def exclusive(path: AnyPath, refusal: str) -> Iterator[None]:
    """Holds the lock at `path` during the block; the file or object is gone afterwards.

    Where the file system has `flock`, the kernel frees the lock of a process that ends in any way.
    Elsewhere there is a lease, `<path>.lease` or the object `path` of a bucket, with a sign of life
    every HEARTBEAT seconds. A lease is void when its process has died on this machine, or gave no
    sign of life for STALE seconds: a process that finds it silent waits that long and takes it.

    Args:
      path: of the lock file, which has no other purpose; its directory exists.
      refusal: what to say when another process holds the lock; the holder is appended.

    Raises:
      UserError: another process holds the lock, or the file cannot be created.
    """
    if not isinstance(path, Path):
        with bucket_lock.exclusive(path, refusal):
            yield
        return
    watch = Watch(refusal)

    def attempt() -> tuple[int, Path] | None:
        file, at = _flock(path, watch), path
        if file == NO_FLOCK:
            at = path.with_name(path.name + ".lease")
            file = _lease(at, watch)
        return None if file is None else (file, at)

    try:
        file, held = processes.wait_until(attempt, f"the lock {path}", pause=0.5)
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
        if _is_at(file, held):
            held.unlink()  # while it is still locked: see _flock
        os.close(file)


def _flock(path: Path, watch: Watch) -> int | None:
    """A descriptor of `path` with an exclusive flock; NO_FLOCK; or None: try again later."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            watch.wait(_read(path), path)
            return None
        except OSError as error:
            os.close(file)
            if error.errno not in _UNSUPPORTED:
                raise
            path.unlink(missing_ok=True)
            return NO_FLOCK
        if _is_at(file, path):
            return _signed(file, path)
        os.close(file)  # its holder removed it between our opening and our locking it


def _lease(path: Path, watch: Watch) -> int | None:
    """A descriptor of `path`, which this process alone has created; None: try again later."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not _is_void(path, watch):
                return None
            _remove_void(path, watch)
        else:
            return _signed(file, path)


def _signed(file: int, path: Path) -> int:
    """`file`, with this process written into it; removed again where the disk is full."""
    try:
        os.ftruncate(file, 0)
        os.write(file, lease.signature())
    except OSError:
        path.unlink(missing_ok=True)
        os.close(file)
        raise
    return file


def _remove_void(path: Path, watch: Watch) -> None:
    """Removes a void lease; of several processes that find it void, one does at a time.

    Without this order, the second one would remove the lease that the first has just created.
    """
    guard = path.with_name(path.name + ".takeover")
    try:
        os.close(os.open(guard, os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        raise UserError(
            f"{watch.refusal} (it is just taking over {path}; if no such process exists, remove "
            f"{guard})"
        ) from None
    try:
        if _is_void(path, watch):
            path.unlink(missing_ok=True)
    finally:
        guard.unlink()


def _is_void(path: Path, watch: Watch) -> bool:
    """Whether the lease is void.

    Raises:
      UserError: its holder lives, and is of another job.
    """
    try:
        touched = path.stat().st_mtime_ns
    except FileNotFoundError:
        return True
    if _file_system_time(path) - touched / 1e9 > STALE:
        return True
    return watch.is_void(_read(path), str(touched), path)


def _file_system_time(path: Path) -> float:
    """The time by the clock that stamps files beside `path`: a server's clock may be another."""
    probe = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _read(path: Path) -> dict:
    """What the holder wrote; nothing while it is being written."""
    try:
        return lease.parse(path.read_bytes())
    except OSError:
        return {}


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _keep_alive(file: int, stopped: threading.Event) -> None:
    # By descriptor: were the lease taken over, the new holder's must not be kept alive.
    while not stopped.wait(lease.HEARTBEAT):
        with contextlib.suppress(OSError):  # a server that is away for a moment
            os.utime(file)
