"""The files at a location: a path, a directory or a glob pattern, here or in an object store."""

import dataclasses
import fnmatch
import glob
import os
import stat
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers.paths import file_system, is_remote, one_message, shown, unreadable

_SKIPPED_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was listed; `size` in bytes."""

    path: str
    size: int


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files at a location, none of them empty, and what else is there: `path (why)`."""

    files: list[SourceFile]
    skipped: list[str]


def find_files(location: str) -> list[SourceFile]:
    """The files at a location; prints what is skipped there.

    Raises:
      UserError: see `list_files`; or there is no file with content.
    """
    listing = list_files(location)
    skipped = ", ".join(listing.skipped[:_SKIPPED_SHOWN])
    if (more := len(listing.skipped) - _SKIPPED_SHOWN) > 0:
        skipped += f" and {more:,} more"
    if not listing.files and not skipped:
        is_absolute = is_remote(location) or os.path.isabs(os.path.expanduser(location))
        where = "" if is_absolute else f" in {os.getcwd()}"
        raise UserError(f"config.corpus.source: no file matches {location!r}{where}")
    if not listing.files:
        raise UserError(f"config.corpus.source: nothing to read at {location!r}: {skipped}")
    if skipped:
        message = f"warning: config.corpus.source: skipped at {location!r}: {skipped}"
        print(message, file=sys.stderr, flush=True)
    return listing.files


def list_files(location: str) -> Listing:
    """The files at a location, sorted by the names along their paths: `a/x` before `a-b/x`.

    A location that exists is taken literally: a file, or all files below a directory.
    Otherwise the location is a glob pattern, in which `**` stands for any directories. Wildcards
    do not match names that begin with a dot. A file that can be reached in several ways, by links,
    is listed once.

    Raises:
      UserError: a directory or a file cannot be read, or a remote file system cannot be used.
    """
    if not location:
        raise UserError("config.corpus.source: a path or pattern is missing after the colon")
    if is_remote(location):
        files, skipped = _find_remote(location), []
    else:
        search = _Search()
        search.find(location)
        files, skipped = search.files(), search.skipped
    skipped += [f"{shown(file.path)} (empty)" for file in files if not file.size]
    files = [file for file in files if file.size]
    return Listing(sorted(files, key=lambda file: file.path.split("/")), skipped)


def _find_remote(location: str) -> list[SourceFile]:
    with one_message(location):
        system, name = file_system(location)
        system.invalidate_cache()
        if glob.has_magic(name) and system.isfile(name):
            return [SourceFile(location, system.info(name)["size"])]
        find = system.find if system.isdir(name) else system.glob
        try:
            entries = find(name, detail=True)
        except FileNotFoundError:  # some raise it for a missing bucket
            return []
        return [
            SourceFile(system.unstrip_protocol(path), facts["size"])
            for path, facts in entries.items()
            if facts["type"] == "file"
        ]


class _Search:
    """The local files that a pattern matches. Unlike `glob`, it survives loops of links, takes
    names literally where they exist, and does not pass over what it may not read.
    """

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self._found: dict[str, os.stat_result] = {}

    def find(self, location: str) -> None:
        for spelled in (location, os.path.expanduser(location)):
            path = Path(spelled)
            if _exists(str(path)):
                self._expand(str(path), ["**"] if path.is_dir() else [])
                return
        root = path.anchor
        self._expand(root, list(path.parts[1 if root else 0 :]))

    def files(self) -> list[SourceFile]:
        """Each file once: by its real path if the pattern matches that, else by its first link."""
        by_inode: dict[tuple[int, int], list[str]] = {}
        for path, facts in self._found.items():
            by_inode.setdefault((facts.st_dev, facts.st_ino), []).append(path)
        files = []
        for paths in by_inode.values():
            kept: dict[str, str] = {}  # by real path: hard links count as separate files
            if len(paths) > 1:
                paths.sort(key=lambda path: (os.path.realpath(path) != os.path.abspath(path), path))
            for path in paths:
                real = os.path.realpath(path) if len(paths) > 1 else path
                if kept.setdefault(real, path) is path:
                    self._expect_readable(path)
                    files.append(SourceFile(path, self._found[path].st_size))
                else:
                    self._skip(path, f"a link to {shown(kept[real])}, which is read already")
        return files

    def _expand(self, base: str, segments: list[str]) -> None:
        """Adds the files whose names below the directory `base` match `segments`."""
        if not segments:
            self._add(base)
            return
        head, *rest = segments
        path = os.path.join(base, head)
        if _exists(path):
            self._expand(path, rest)
        elif head == "**":
            for directory in self._directories(base):
                self._expand(directory, rest or ["*"])
        elif glob.has_magic(head):
            for name in self._names(base):
                is_hidden = name.startswith(".") and not head.startswith(".")
                if fnmatch.fnmatch(name, head) and not is_hidden:
                    self._expand(os.path.join(base, name), rest)

    def _add(self, path: str) -> None:
        try:
            facts = os.stat(path)
        except PermissionError as error:
            raise unreadable(path, error) from error
        except OSError:
            self._skip(path, "a broken link" if os.path.islink(path) else "gone")
            return
        if stat.S_ISREG(facts.st_mode):
            self._found[path] = facts
        elif not stat.S_ISDIR(facts.st_mode):
            self._skip(path, "not a regular file")

    def _names(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory or "."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise unreadable(directory, error) from error

    def _directories(self, base: str) -> Iterator[str]:
        """`base` and the directories below it, each once; those reached by links come last."""
        direct, linked = deque([base]), deque[str]()
        visited: dict[tuple[int, int], str] = {}
        while direct or linked:
            directory = direct.popleft() if direct else linked.popleft()
            try:
                facts = os.stat(directory or ".")
            except OSError:
                self._add(directory)  # says what is wrong
                continue
            first = visited.setdefault((facts.st_dev, facts.st_ino), directory)
            if first is not directory:
                self._skip(directory, f"a link to {shown(first)}, which is read already")
                continue
            yield directory
            for name in self._names(directory):
                path = os.path.join(directory, name)
                if not name.startswith(".") and os.path.isdir(path):
                    (linked if os.path.islink(path) else direct).append(path)

    def _skip(self, path: str, why: str) -> None:
        self.skipped.append(f"{shown(path)} ({why})")

    def _expect_readable(self, path: str) -> None:
        effective = os.access in os.supports_effective_ids
        if not os.access(path, os.R_OK, effective_ids=effective):
            raise unreadable(path, PermissionError(0, "permission denied"))


def _exists(path: str) -> bool:
    """Whether a name exists, even as a broken link.

    Raises:
      UserError: its directory may not be searched.
    """
    try:
        os.lstat(path)
    except PermissionError as error:
        directory, name = os.path.split(path)
        raise unreadable(directory if glob.has_magic(name) else path, error) from error
    except (OSError, ValueError):
        return False
    return True
