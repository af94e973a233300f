"""Sources in object stores, through a real client and a real server on this machine."""

import gzip
import importlib.util
import json
import signal
import subprocess
import sys
import time

import pyarrow
import pytest
from pyarrow import parquet

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import files
from bert_jax.corpus.readers.listing import find_files
from bert_jax.corpus.readers.paths import open_binary
from tests.corpus.corpora import (
    FILES_APART,
    build_store,
    contents,
    documents,
    third,
    tiny_config,
    write_text,
)

TEXTS = documents(120)
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def s3():
    """The file system of a server whose address is in the environment, also that of workers."""
    s3fs = pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in _CREDENTIALS.items():
            environment.setenv(name, value)
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        system = s3fs.S3FileSystem()
        system.mkdir("corpus")
        yield system
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(s3, tmp_path):
    """Text, compressed text and JSON lines, here and in a bucket; both sources."""
    local = tmp_path / "corpus"
    write_text(local / "text" / "deep" / "a.txt", TEXTS[:20])
    write_text(local / "text" / "deep-er" / "a.txt", TEXTS[20:40])
    plain = write_text(tmp_path / "b.txt", TEXTS[40:80])
    (local / "text" / "b.txt.gz").write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    lines = (json.dumps({"text": "\n".join(text)}) for text in TEXTS[80:])
    (local / "c.jsonl").write_text("\n".join(lines))
    (local / "text" / "empty.txt").touch()
    s3.put(str(local) + "/", "corpus/", recursive=True)
    yield tuple(f"text:{root}/text + jsonl:{root}/*.jsonl" for root in (local, "s3://corpus"))
    for path in s3.find("corpus"):
        s3.rm(path)


def test_a_store_of_a_bucket_is_that_of_the_same_files_here(bucket, tmp_path):
    here, there = bucket
    local = build_store(tiny_config(here), tmp_path / "local")
    remote = build_store(tiny_config(there, corpus_workers=2), tmp_path / "remote")
    assert remote.fingerprint == local.fingerprint
    names = [source.pop("name") for source in remote.manifest["sources"]]
    assert names == [
        "s3://corpus/text/b.txt.gz",
        "s3://corpus/text/deep/a.txt",
        "s3://corpus/text/deep-er/a.txt",
        "s3://corpus/c.jsonl",
    ]
    for source in local.manifest["sources"] + remote.manifest["sources"]:
        source.pop("name", None)
        del source["source"]
    assert remote.manifest["sources"] == local.manifest["sources"]
    alone = build_store(tiny_config(there), tmp_path / "alone")
    assert contents(alone.directory) == contents(remote.directory)


def test_a_killed_build_of_a_bucket_goes_on_and_gives_the_same_bytes(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "range_bytes", third)
    unbroken = build_store(tiny_config(bucket[1]), tmp_path / "unbroken")
    directory = tmp_path / "store"
    code = (
        f"{FILES_APART}; from tests.corpus.corpora import tiny_config; "
        "from tests.corpus.corpora import build_store; "
        f"build_store(tiny_config({bucket[1]!r}), {str(directory)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    first_shard = tmp_path / "store.partial" / "work" / "encoded-00000"
    while not first_shard.exists() and process.poll() is None:
        time.sleep(0)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    made = (first_shard / "train" / "tokens.npy").stat().st_mtime_ns
    build_store(tiny_config(bucket[1]), directory)
    assert contents(directory) == contents(unbroken.directory)
    assert (directory / "train" / "00000" / "tokens.npy").stat().st_mtime_ns == made


def test_a_store_notices_that_a_file_in_a_bucket_changed(s3, bucket, tmp_path):
    config = tiny_config(bucket[1])
    build_store(config, tmp_path / "store")
    s3.pipe("s3://corpus/text/deep/a.txt", b"Something else.\n")
    with pytest.raises(UserError, match=r"s3://corpus/text/deep/a\.txt had \d+ bytes and has 16"):
        build_store(config, tmp_path / "store")
    s3.rm("corpus/*", recursive=True)
    build_store(config, tmp_path / "store")  # it does not need them


def test_parquet_in_a_bucket_is_read_by_row_groups(s3, tmp_path):
    table = pyarrow.table({"text": ["\n".join(text) for text in TEXTS]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=50)
    s3.put(str(tmp_path / "a.parquet"), "corpus/p/a.parquet")
    remote = build_store(tiny_config("parquet:s3://corpus/p/*.parquet"), tmp_path / "remote")
    local = build_store(tiny_config(f"parquet:{tmp_path}/a.parquet"), tmp_path / "local")
    assert remote.fingerprint == local.fingerprint
    size = (tmp_path / "a.parquet").stat().st_size
    assert remote.manifest["sources"][0]["bytes"] == size


def test_what_is_not_in_the_object_store_is_one_message(s3):
    with pytest.raises(UserError, match=r"no file matches 's3://nobody-has-this/\*\.txt'"):
        find_files("s3://nobody-has-this/*.txt")
    with pytest.raises(UserError, match=r"no file matches 's3://corpus/none\*'"):
        find_files("s3://corpus/none*")
    s3.pipe("s3://corpus/gone.txt", b"text")
    (file,) = find_files("s3://corpus/gone.txt")
    s3.rm("s3://corpus/gone.txt")
    with pytest.raises(UserError, match=r"s3://corpus/gone\.txt cannot be read"):
        open_binary(file.path).read()


def test_without_credentials_or_server_there_is_one_message(s3, monkeypatch, tmp_path):
    type(s3).clear_instance_cache()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with monkeypatch.context() as changed:
        changed.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(UserError, match=r"s3://corpus/\*\.txt cannot be read \(.*redentials"):
            find_files("s3://corpus/*.txt")
    type(s3).clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"s3://corpus/\*\.txt cannot be read \(Could not connect"):
        find_files("s3://corpus/*.txt")
    type(s3).clear_instance_cache()


@pytest.mark.parametrize(
    ("path", "package", "fix"),
    [
        ("s3://a/b", "s3fs", r"\[s3\]"),
        ("gs://a/b", "gcsfs", r"\[gcs\]"),
        ("abfs://a/b", "adlfs", ""),
    ],
)
def test_a_missing_package_is_named(path, package, fix):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    pytest.importorskip("fsspec")
    with pytest.raises(UserError, match=rf"{path} needs a package .*nstall {package} .*{fix}"):
        find_files(path)


def test_a_store_needs_a_directory(tmp_path):
    config = tiny_config("docs:", corpus_directory="s3://corpus/store")
    with pytest.raises(UserError, match=r"directory='s3://corpus/store': a token store is mapped"):
        build_store(config, config.corpus.directory)
