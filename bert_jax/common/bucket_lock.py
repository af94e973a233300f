"""A lock in a bucket: an object that one process writes, and takes over by its generation.

Google Cloud Storage counts the versions of an object. A write for one generation succeeds once, so
of several processes that find the lease void one takes it, and a holder that was held up for so
long that another took over notices at its next sign of life, and ends.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from bert_jax.common import lease, processes
from bert_jax.common.bucket import BucketPath
from bert_jax.common.lease import Watch


@contextlib.contextmanager
def exclusive(path: BucketPath, refusal: str) -> Iterator[None]:
    """Holds the object at `path` during the block; it is gone afterwards.

    Raises:
      UserError: another process holds it; `refusal`, with the holder appended.
    """
    from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
    from google.auth.exceptions import GoogleAuthError

    blob, watch, text = _blob(path), Watch(refusal), lease.signature()
    stopped = threading.Event()
    generation = 0

    def write(generation: int) -> int | None:
        """The generation written over `generation`; None: that is not the newest any more."""
        try:
            blob.upload_from_string(text, if_generation_match=generation)
        except PreconditionFailed:
            with contextlib.suppress(NotFound):
                if blob.download_as_bytes() == text:  # written before an answer that was lost
                    blob.reload()
                    return blob.generation
            return None
        return blob.generation

    def attempt() -> int | None:
        try:
            blob.reload()
            newest, holder = blob.generation, lease.parse(blob.download_as_bytes())
        except NotFound:
            return write(0)  # if there is still no object
        return write(newest) if watch.is_void(holder, str(newest), path) else None

    def keep_alive() -> None:
        nonlocal generation
        while not stopped.wait(lease.HEARTBEAT):
            with contextlib.suppress(GoogleAPIError, GoogleAuthError, OSError):  # away for a moment
                newer = write(generation)
                if newer is None:
                    print(f"error: {path} was taken over by another process.", flush=True)
                    os._exit(1)
                generation = newer

    generation = processes.wait_until(attempt, f"the lock {path}", pause=lease.HEARTBEAT / 5)
    keeper = threading.Thread(target=keep_alive, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopped.set()
        keeper.join()
        with contextlib.suppress(NotFound, PreconditionFailed):
            blob.delete(if_generation_match=generation)


def _blob(path: BucketPath) -> Any:
    from google.cloud import storage  # type: ignore[attr-defined]

    bucket, _, name = os.fspath(path).removeprefix("gs://").partition("/")
    return storage.Client().bucket(bucket).blob(name)
