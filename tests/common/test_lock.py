import errno
import fcntl
import json
import os
import time

import pytest

from bert_jax.common import lock
from bert_jax.common.errors import UserError
from bert_jax.common.lock import exclusive


@pytest.fixture(params=["flock", "lease"])
def path(request, tmp_path, monkeypatch):
    """A lock file; with `lease`, on a file system that has no flock."""
    if request.param == "lease":
        without_flock(monkeypatch, errno.ENOSYS)
    return tmp_path / "lock"


def without_flock(monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_second_holder_is_refused_with_the_first_ones_name(path):
    with exclusive(path, "in use"):
        refusal = rf"^in use \(process {os.getpid()} on \S+; lock: {path}(\.lease)?\)$"
        with pytest.raises(UserError, match=refusal), exclusive(path, "in use"):
            pass
        assert any(path.parent.iterdir())  # the one that was refused removed nothing
    assert not any(path.parent.iterdir())
    with exclusive(path, "in use"):
        pass


def test_an_error_in_the_block_frees_the_lock(path):
    with pytest.raises(KeyError), exclusive(path, "in use"):
        raise KeyError
    assert not any(path.parent.iterdir())


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK])
def test_other_file_systems_without_flock(tmp_path, monkeypatch, number):
    without_flock(monkeypatch, number)
    with exclusive(tmp_path / "lock", "in use"):
        assert [file.name for file in tmp_path.iterdir()] == ["lock.lease"]


def left_behind(path, age, **values):
    """A lease whose holder is gone, `age` seconds after its last sign of life."""
    lease = path.with_name(path.name + ".lease")
    lease.write_text(json.dumps({**lock._me(), **values}))
    os.utime(lease, (time.time() - age,) * 2)


def free_pid():
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.mark.parametrize(
    ("age", "elsewhere", "dead", "is_void"),
    [
        (0, False, True, True),
        (0, False, False, False),
        (0, True, True, False),  # the process id of another machine says nothing here
        (2 * lock.STALE, True, True, True),
        (2 * lock.STALE, False, False, True),  # another process has the number after a reboot
    ],
)
def test_the_lease_of_a_dead_holder_is_void(tmp_path, monkeypatch, age, elsewhere, dead, is_void):
    without_flock(monkeypatch, errno.ENOSYS)
    values = {"pid": free_pid() if dead else os.getppid()}
    if elsewhere:
        values |= {"host": "node7", "machine": "node7"}
    left_behind(tmp_path / "lock", age, **values)
    if is_void:
        with exclusive(tmp_path / "lock", "in use"):
            pass
    else:
        with pytest.raises(UserError, match="in use"), exclusive(tmp_path / "lock", "in use"):
            pass


def test_a_lease_that_is_held_stays_fresh(tmp_path, monkeypatch):
    without_flock(monkeypatch, errno.ENOSYS)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.01)
    with exclusive(tmp_path / "lock", "in use"):
        lease = tmp_path / "lock.lease"
        os.utime(lease, (0, 0))
        deadline = time.monotonic() + 10
        while lease.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.stat().st_mtime > 0


def test_a_directory_without_permission_is_one_line(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # tests may run as root, who may write anywhere
    with (
        pytest.raises(UserError, match=r"lock cannot be created: Permission denied"),
        exclusive(tmp_path / "lock", "in use"),
    ):
        pass
