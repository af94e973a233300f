"""The token store that a run trains on: the one that it began with, or a new one."""

from pathlib import Path

import jax

from bert_jax.common import console, processes
from bert_jax.common.errors import UserError
from bert_jax.config import RunSettings
from bert_jax.corpus.build import build_store
from bert_jax.corpus.sources import changed_files
from bert_jax.corpus.store import MANIFEST, TokenStore
from bert_jax.run.workdir import has_checkpoints

SHOWN_FILES = 5  # changed source files that a message names


def open_or_build(settings: RunSettings, workdir: Path) -> TokenStore:
    """The run's token store; the first process makes it while the others wait for it."""
    store_directory = settings.store_directory(workdir)

    def of_this_process() -> TokenStore:
        existing = _as_begun(workdir, settings, store_directory)
        return existing or build_store(settings.corpus, store_directory, settings.objective.needs)

    if jax.process_index() == 0:
        store = of_this_process()
    processes.barrier(f"prepare the token store {store_directory}")
    if jax.process_index() == 0:
        return store
    if not processes.appears(store_directory / MANIFEST):
        raise UserError(
            f"{processes.me()} does not see the token store {store_directory} of process 0: set "
            "config.corpus.directory to a directory of a file system that all hosts share"
        )
    return of_this_process()


def _as_begun(workdir: Path, settings: RunSettings, directory: Path) -> TokenStore | None:
    """The token store in `directory` for a run that has checkpoints; None for any other run.

    Such a run continues on the store that it began with, whatever happened to the source files
    since: the checkpoint has the store's fingerprint. Says which of them changed.

    Raises:
      UserError: the store is damaged, or of another format version.
    """
    if not has_checkpoints(workdir) or not (directory / MANIFEST).is_file():
        return None
    store = TokenStore.open(directory)
    changes = changed_files(settings.corpus.source, store.manifest["sources"])
    if changes:
        more = len(changes) - SHOWN_FILES
        console.say(
            f"Note: source files changed since the token store {directory} was made: "
            f"{'; '.join(changes[:SHOWN_FILES])}{f'; and {more} more' if more > 0 else ''}. "
            "The run continues on the store as it is; to train on the changed files, start a new "
            "run with another --workdir (and config.corpus.directory)"
        )
    return store
