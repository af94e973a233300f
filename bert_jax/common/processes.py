"""What the processes of a run tell each other, and waiting that says for what it waits.

The messages go through the coordination service that jax.distributed starts in process 0. No
device takes part, so they pass before the first compilation and while a device hangs.
"""

import contextlib
import itertools
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax._src import distributed  # there is no public way to the service's keys and values

from bert_jax.common.bucket import AnyPath
from bert_jax.common.errors import FirstProcessEndedError

NOTICE = 60.0  # seconds after which whoever waits says for what, and between two such lines
SEEN_WITHIN = 30.0  # seconds in which other hosts must see a new file: NFS remembers its absence
_PAUSE = 0.1  # seconds between two looks
_numbers = itertools.count()  # of the exchanges: all processes make them in the same order

T = TypeVar("T")


def wait_until(attempt: Callable[[], T | None], what: str, pause: float = _PAUSE) -> T:
    """What `attempt` returns once that is not None; says each minute that `what` is waited for.

    Args:
      attempt: called every `pause` seconds.
      what: ends the sentence "process 1 on b waits for ...".
      pause: seconds.
    """
    began = said = time.monotonic()
    while (found := attempt()) is None:
        if time.monotonic() - said >= NOTICE:
            said = time.monotonic()
            print(f"{me().capitalize()} waits for {what} since {said - began:.0f} s.", flush=True)
        time.sleep(pause)
    return found


def me() -> str:
    """The name of this process in messages: `process 3 on host`."""
    return f"process {jax.process_index()} on {socket.gethostname()}"


def publish(key: str, value: str) -> None:
    """Let the other processes of the run read `value`; once for each key."""
    if jax.process_count() > 1:
        with _service() as service:
            service.key_value_set(key, value)


def read(key: str) -> str | None:
    """What some process published; None: nothing yet, or this is the only process."""
    if jax.process_count() == 1:
        return None
    with _service() as service:
        try:
            return service.key_value_try_get(key)
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
            return None


def take_all(prefix: str) -> dict[str, str]:
    """What was published under keys that begin with `prefix`, by the rest of the key; removed."""
    with _service() as service:
        found = service.key_value_dir_get(prefix)
        service.key_value_delete(prefix)
    return {key.removeprefix(prefix): value for key, value in found}


def exchange(value: str, what: str) -> list[str]:
    """The values of all processes, by their index. Every process must call it.

    Args:
      value: of this process.
      what: the others are waited for to do.
    """
    count = jax.process_count()
    if count == 1:
        return [value]
    prefix = f"bert_jax/exchange/{next(_numbers)}"
    publish(f"{prefix}/{jax.process_index()}", value)
    return [_wait_for(f"{prefix}/{i}", f"process {i} to {what}") for i in range(count)]


def of_first(action: Callable[[], T], what: str) -> T:
    """What `action` returns in process 0, in all processes. Every process must call it.

    Args:
      action: called in process 0 alone; returns what JSON can hold. A tuple becomes a list.
      what: `action` does; process 0 is waited for to do it.
    """
    if jax.process_count() == 1:
        return json.loads(json.dumps(action()))
    key = f"bert_jax/exchange/{next(_numbers)}/0"
    if jax.process_index() == 0:
        publish(key, json.dumps(action()))
    return json.loads(_wait_for(key, f"process 0 to {what}"))


def barrier(what: str) -> None:
    """Wait until process 0 has come here as well. Every process must call it.

    Args:
      what: process 0 is waited for to do.
    """
    of_first(lambda: None, what)


def blind_to(directory: AnyPath) -> list[str]:
    """The processes that do not see a file which process 0 writes. Every process must call it.

    Args:
      directory: to write in, which is there in process 0; the file is removed again.
    """

    def write() -> str:
        name = f"{uuid.uuid4().hex}.token"
        (directory / name).write_text(name)
        return name

    path = directory / of_first(write, f"write to {directory}")
    answers = exchange("" if appears(path) else me(), f"look for {path}")
    if jax.process_index() == 0:
        path.unlink(missing_ok=True)
    return [name for name in answers if name]


def appears(path: AnyPath) -> bool:
    """Whether there is a file at `path`, now or within SEEN_WITHIN seconds."""
    deadline = time.monotonic() + SEEN_WITHIN
    while not path.is_file():
        if time.monotonic() > deadline or not isinstance(path, Path):  # a bucket forgets nothing
            return path.is_file()
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # NFS then asks its server instead of its memory
        time.sleep(_PAUSE)
    return True


def _wait_for(key: str, what: str) -> str:
    return wait_until(lambda: read(key), what)


@contextlib.contextmanager
def _service() -> Iterator[Any]:
    """The client of the coordination service, which lives in process 0."""
    client = distributed.global_state.client
    assert client is not None, "sharding.start_distributed comes first"
    try:
        yield client
    except jax.errors.JaxRuntimeError as error:
        if "UNAVAILABLE" not in str(error):
            raise
        raise FirstProcessEndedError(
            f"{me()} ends, as process 0 has ended; the message of process 0 says why"
        ) from error
