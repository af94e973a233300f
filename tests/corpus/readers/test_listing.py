"""Local files: names, links, permissions, and files that change while they are read."""

import contextlib
import gzip
import os
import pickle

import pyarrow
import pytest
from pyarrow import parquet

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import text
from bert_jax.corpus.readers.files import FileRange
from bert_jax.corpus.readers.listing import find_files, list_files
from bert_jax.corpus.readers.paths import is_remote, shown
from bert_jax.corpus.settings import Reading
from tests.corpus.corpora import build_store, documents, read, tiny_config, write_text

READING = Reading(documents="blank_line", field="text", invalid_utf8="refuse")


def names(location, base):
    return [os.path.relpath(file.path, base) for file in find_files(str(location))]


def skipped_at(location):
    return list_files(str(location)).skipped


@contextlib.contextmanager
def as_nobody():
    """Without the rights of root, which reads everything."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)


@pytest.mark.parametrize(
    "name",
    [
        "data [v2]",
        "a + b",
        "a + text:b",
        "~",
        "~root",
        "a b",
        "*",
        "a?[!x]",
        "[",
        "a:b=c",
        "caf\udce9",
        "new\nline",
    ],
)
def test_what_exists_is_taken_by_its_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / name / "a.txt", [["one"]])
    write_text(tmp_path / "data 2" / "b.txt", [["another"]])
    (tmp_path / f"{name}.txt").write_text("two")
    assert names(f"{tmp_path}/{name}", tmp_path) == [f"{name}/a.txt"]
    assert names(f"{tmp_path}/{name}.txt", tmp_path) == [f"{name}.txt"]
    assert names(f"{tmp_path}/{name}/*.txt", tmp_path) == [f"{name}/a.txt"]
    assert [file.path for file in find_files(name)] == [f"{name}/a.txt"]  # relative
    if name != "a + text:b":
        assert read(f"text:{name}") == [["one"]]


def test_a_pattern_matches_as_in_the_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a1.txt", "a2.txt", "b1.txt", ".hidden.txt", "d/a3.txt", ".h/a4.txt", "d/e/c.md"):
        write_text(tmp_path / name, [["text"]])
    for pattern, found in {
        "*.txt": ["a1.txt", "a2.txt", "b1.txt"],
        "[!a]?.txt": ["b1.txt"],
        "*/*.txt": ["d/a3.txt"],
        "**/*.txt": ["a1.txt", "a2.txt", "b1.txt", "d/a3.txt"],
        "**": ["a1.txt", "a2.txt", "b1.txt", "d/a3.txt", "d/e/c.md"],
        "d/**": ["d/a3.txt", "d/e/c.md"],
        "**/e/**": ["d/e/c.md"],
        ".*.txt": [".hidden.txt"],
        ".h": [".h/a4.txt"],
        "d/../b1.txt": ["b1.txt"],
    }.items():
        assert names(tmp_path / pattern, tmp_path) == found, pattern
    assert names("~/d/*.txt", tmp_path) == ["d/a3.txt"]
    for pattern in ("a1.txt/*", "nowhere/**", "x*/y", ""):
        with pytest.raises(UserError, match=r"no file matches|is missing after the colon"):
            find_files(pattern and str(tmp_path / pattern))


def test_each_file_is_read_once_and_what_is_skipped_is_named(tmp_path, capsys):
    write_text(tmp_path / "z" / "a.txt", [["one"]])
    (tmp_path / "z" / "loop").symlink_to(tmp_path)
    (tmp_path / "z" / "second_loop").symlink_to(tmp_path / "z")
    (tmp_path / "b.txt").symlink_to(tmp_path / "z" / "a.txt")
    (tmp_path / "c").symlink_to(tmp_path / "z")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "empty.txt").touch()
    for location in (tmp_path, tmp_path / "**" / "*.txt"):
        assert names(location, tmp_path) == ["z/a.txt"]
    assert capsys.readouterr().err.count("warning: config.corpus.source: skipped at ") == 2
    skipped = {
        os.path.basename(text.split(" (")[0]): text for text in list_files(str(tmp_path)).skipped
    }
    links = {"loop", "second_loop", "b.txt", "c", "gone.txt", "self.txt"}
    assert set(skipped) == {*links, "pipe.txt", "empty.txt"}
    assert skipped["b.txt"].endswith(
        "b.txt (a link to " + f"{tmp_path}/z/a.txt, which is read already)"
    )
    assert skipped["gone.txt"].endswith("(a broken link)")
    assert skipped["pipe.txt"].endswith("(not a regular file)")
    with pytest.raises(UserError, match=r"nothing to read at '.*': .*gone\.txt \(a broken link\)"):
        find_files(str(tmp_path / "gone.txt"))
    (tmp_path / "d").mkdir()
    os.link(tmp_path / "z" / "a.txt", tmp_path / "d" / "hard.txt")
    assert names(tmp_path / "d", tmp_path) == ["d/hard.txt"]


def test_many_skipped_files_are_one_line(tmp_path, capsys):
    write_text(tmp_path / "a.txt", [["one"]])
    for number in range(9):
        (tmp_path / f"empty{number}.txt").touch()
    assert names(tmp_path, tmp_path) == ["a.txt"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("empty4.txt (empty) and 4 more")


def test_links_to_one_file_in_two_sources_are_refused(tmp_path):
    path = write_text(tmp_path / "a.txt", documents(9))
    (tmp_path / "b.txt").symlink_to(path)
    with pytest.raises(UserError, match=r"b\.txt is in text:.*b\.txt and in text:.*a\.txt; a file"):
        read(f"text:{path} + text:{tmp_path}/b.txt")


def test_what_may_not_be_read_is_refused_at_the_start(tmp_path):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent.name.startswith(
            ("pytest", "popen", "test")
        ):
            parent.chmod(0o755)
    write_text(tmp_path / "closed" / "a.txt", [["one"]])
    secret = write_text(tmp_path / "open" / "b.txt", [["two"]])
    (tmp_path / "closed").chmod(0)
    secret.chmod(0)
    with as_nobody():
        for location in ("", "closed", "closed/a.txt", "*/a.txt", "**/*.txt", "closed/*"):
            with pytest.raises(UserError, match=r"closed(/a\.txt)? cannot be read \(Permission de"):
                list_files(str(tmp_path / location))
        for location in ("open", "open/b.txt", "open/*"):
            with pytest.raises(UserError, match=r"b\.txt cannot be read \(permission denied\)"):
                list_files(str(tmp_path / location))
        with pytest.raises(UserError, match=r"b\.txt cannot be read \(Permission denied\)"):
            next(text.TextPart(files_range(secret), READING).documents())
    (tmp_path / "closed").chmod(0o755)


def files_range(path):
    size = os.path.getsize(path)
    return FileRange(str(path), 0, size, size)


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv", "parquet"])
def test_a_file_that_is_gone_after_the_listing_is_named(tmp_path, kind):
    path = tmp_path / "caf\udce9.data"
    path.write_text('{"text": "one"}' if kind == "jsonl" else "text\none\n")
    if kind == "parquet":
        parquet.write_table(pyarrow.table({"text": ["one"]}), tmp_path / "a")
        (tmp_path / "a").rename(path)
    parts = listed_parts(f"{kind}:{path}")
    assert list(pickle.loads(pickle.dumps(parts[0])).documents())
    path.unlink()
    with pytest.raises(UserError, match=r"caf\\xe9\.data cannot be read \(No such file or dir"):
        list(parts[0].documents())


def test_a_file_that_becomes_shorter_is_named(tmp_path):
    path = write_text(tmp_path / "a.txt", documents(9))
    (part,) = listed_parts(f"text:{path}")
    os.truncate(path, 20)
    with pytest.raises(UserError, match=r"a\.txt became shorter while the corpus was prepared"):
        list(part.documents())


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch, name):
    content = gzip.compress(b"text") if name.endswith("gz") else b"text"
    (tmp_path / name).write_bytes(content)
    (part,) = listed_parts(f"text:{tmp_path}")
    monkeypatch.setattr("bert_jax.corpus.readers.files.open_binary", lambda path: Failing())
    with pytest.raises(UserError, match=rf"{name} cannot be read \(Input/output error\)"):
        list(part.documents())


class Failing:
    """A file on a disk that fails."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def seek(self, offset, whence=0):
        pass

    def read(self, size=-1):
        raise OSError(5, "Input/output error")


def listed_parts(source):
    from bert_jax.corpus.settings import from_config
    from bert_jax.corpus.sources import list_bundles

    return [
        part for bundle in list_bundles(from_config(tiny_config(source))) for part in bundle.parts
    ]


def test_a_name_in_another_encoding_is_shown_escaped_in_the_report(tmp_path):
    path = write_text(tmp_path / "texts" / "caf\udce9.txt", documents(60))
    config = tiny_config(f"text:{path}")
    store = build_store(config, tmp_path / "store")
    page = (store.directory / "report.html").read_text(encoding="utf-8")
    assert r"caf\xe9.txt" in page
    assert store.manifest["sources"][0]["name"].endswith("caf\udce9.txt")
    build_store(config, tmp_path / "store")
    write_text(path, documents(61))
    with pytest.raises(UserError, match=r"caf\\xe9\.txt had \d+ bytes and has \d+ now"):
        build_store(config, tmp_path / "store")


def test_shown_paths_are_one_line_of_utf8():
    assert shown("/data/für.txt") == "/data/für.txt"
    assert shown("a\nb\udce9\x07\ud800") == r"a\nb\xe9\x07\ud800"


@pytest.mark.parametrize(
    ("path", "remote"),
    [("s3://a/b", True), ("simplecache::s3://a", True), ("/data/x://y", False), ("a b://c", False)],
)
def test_a_remote_path_begins_with_its_scheme(path, remote):
    assert is_remote(path) == remote
