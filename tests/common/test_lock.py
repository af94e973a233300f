import errno
import fcntl
import json
import os
import threading
import time

import pytest

from bert_jax.common import lease, lock
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
        refusal = (
            rf"^in use \(process {os.getpid()} on \S+, since [\d: +-]+; lock: {path}(\.lease)?\)$"
        )
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
    file = path.with_name(path.name + ".lease")
    file.write_text(json.dumps({**lease.me(), **values}))
    os.utime(file, (time.time() - age,) * 2)


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
    monkeypatch.setattr(lease, "HEARTBEAT", 0.01)
    with exclusive(tmp_path / "lock", "in use"):
        file = tmp_path / "lock.lease"
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 10
        while file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > 0


def test_a_directory_without_permission_is_one_line(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # tests may run as root, who may write anywhere
    with (
        pytest.raises(UserError, match=r"lock cannot be created: Permission denied"),
        exclusive(tmp_path / "lock", "in use"),
    ):
        pass


@pytest.mark.parametrize("lives", [True, False])
def test_a_lease_of_another_host_is_watched_before_it_is_refused_or_taken(
    tmp_path, monkeypatch, capsys, lives
):
    without_flock(monkeypatch, errno.ENOSYS)
    monkeypatch.setattr(lease, "STALE", 1.0)
    left_behind(tmp_path / "lock", 0, host="node7", machine="node7")
    stopped = threading.Event()

    def beat():
        while lives and not stopped.wait(0.1):
            os.utime(tmp_path / "lock.lease")

    keeper = threading.Thread(target=beat)
    keeper.start()
    try:
        if lives:
            with pytest.raises(UserError, match="node7"), exclusive(tmp_path / "lock", "in use"):
                pass
        else:
            with exclusive(tmp_path / "lock", "in use"):
                pass
    finally:
        stopped.set()
        keeper.join()
    assert "on node7" in (said := capsys.readouterr().out)
    assert "which may be dead; taking over if it is silent for 1 s." in said


def test_a_requeued_job_waits_until_its_earlier_start_has_ended(path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    earlier = exclusive(path, "in use")
    earlier.__enter__()
    threading.Timer(1.0, lambda: earlier.__exit__(None, None, None)).start()
    with exclusive(path, "in use"):
        pass
    assert "which SLURM job 17 started before; waiting for its end." in capsys.readouterr().out
    assert not any(path.parent.iterdir())
