"""Opens a token store that exists already, if it is the one that would be built."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.common.errors import UserError
from bert_jax.corpus.filters.selection import expect_enough
from bert_jax.corpus.settings import Needs, Settings
from bert_jax.corpus.sources import changed_files
from bert_jax.corpus.store import SPLITS, TokenStore, read_manifest

# Settings that older stores do not list, and their values there.
_LATER = {
    "lines": "paragraph",
    "options": "",
    "bad_records": "refuse",
    "quoting": "auto",
    "strip_accents": "auto",
}


def open_existing(directory: Path, settings: Settings, needs: Needs) -> TokenStore:
    """Opens a store that was made from `settings` and the files as they are now.

    Raises:
      UserError: it was made from others (with the differences), or has too few documents.
    """
    differences = [
        f"{field.name} is {field.stored!r} there and {field.wanted!r} here"
        for field in _differences(read_manifest(directory)["settings"], settings.deciding_bytes())
    ]
    store = TokenStore.open(directory)
    if not differences:
        differences = changed_files(settings.source, store.manifest["sources"])
    if differences:
        raise UserError(
            f"the token store {directory} is another one: {'; '.join(differences)}. Give this one "
            "a directory of its own (config.corpus.directory or --workdir), or remove the old one"
        )
    for split in SPLITS:
        expect_enough(split, store.manifest["splits"][split]["documents"], settings, needs)
    return store


def expect_no_other_content(directory: Path) -> None:
    """Refuses a directory that holds anything but a token store.

    Raises:
      UserError: it does.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(
            f"{directory} is there and is no token store; give another directory "
            "(config.corpus.directory), or remove it"
        )


class _Difference(NamedTuple):
    name: str
    stored: Any
    wanted: Any


def _differences(
    stored: dict[str, Any], wanted: dict[str, Any], group: str = "config.corpus."
) -> Iterator[_Difference]:
    for name, value in wanted.items():
        if isinstance(value, dict):
            inner = "config.tokenizer." if name == "tokenizer" else group
            yield from _differences(stored.get(name, {}), value, inner)
        elif (before := stored.get(name, _LATER.get(name))) != value:
            yield _Difference(group + name, before, value)
