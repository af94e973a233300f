"""Disks that are full: one message, nothing half-used, and the next try goes on."""

import subprocess
import sys

import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import files
from tests.corpus.corpora import build_store, contents, documents, third, tiny_config, write_text


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "range_bytes", third)
    for index in range(4):
        write_text(tmp_path / "text" / f"{index}.txt", documents(60, seed=index))
    return f"text:{tmp_path}/text/*.txt"


@pytest.fixture
def small_disk(tmp_path):
    """A file system in memory, and what gives it another size in KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")

    def resize(kib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kib}k", str(disk)], check=True)

    yield disk, resize
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(("workers", "step", "failures"), [(1, 48, 5), (2, 400, 2)])
def test_a_disk_that_is_too_small_again_and_again(
    source, tmp_path, small_disk, workers, step, failures
):
    unbroken = build_store(tiny_config(source), tmp_path / "unbroken")
    disk, resize = small_disk
    config = tiny_config(source, corpus_workers=workers)
    size = 64
    stages = set()
    while not (disk / "store").exists():
        resize(size)
        try:
            build_store(config, disk / "store")
        except UserError as error:
            assert str(error).startswith("the disk is full: the token store ")  # noqa: PT017
            work = disk / "store.partial" / "work"
            stages.add(len(list(work.iterdir())))
            assert not list(work.glob("*.tmp"))
        size += step
    assert len(stages) >= failures
    assert contents(disk / "store") == contents(unbroken.directory)


def test_the_last_file_does_not_fit(source, tmp_path):
    manifest = tmp_path / "store.partial" / "manifest.json.tmp"
    manifest.parent.mkdir()
    manifest.symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full"):
        build_store(tiny_config(source), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    build_store(tiny_config(source), tmp_path / "store").verify()


def test_files_may_not_grow_as_large_as_needed(source, tmp_path):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "from tests.corpus.corpora import tiny_config; "
        "from tests.corpus.corpora import build_store; "
        f"build_store(tiny_config({source!r}), {str(tmp_path / 'store')!r})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "bert_jax.common.errors.UserError: a file grew larger than this process may"
    )
    assert not (tmp_path / "store").exists()
    build_store(tiny_config(source), tmp_path / "store").verify()
