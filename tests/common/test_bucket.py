"""A run whose workdir is in a bucket, on a server that speaks Google Cloud Storage's API."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from google.auth.exceptions import RefreshError
from google.cloud.storage import Blob

from bert_jax import checkpoints as checkpoints_command
from bert_jax.common import bucket, lease
from bert_jax.common.bucket_lock import exclusive
from bert_jax.common.errors import UserError
from bert_jax.corpus.store import TokenStore
from bert_jax.run import finish, trackers
from bert_jax.run.workdir import CONFIG, FINISHED, claim, load_run, read_config
from tests import commands
from tests.gcs import Server
from tests.runs import ROOT, records, tiny, train

VARIABLES = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL")


@pytest.fixture(scope="module")
def server():
    """The server, to which all clients in this process connect: they do so once."""
    with Server() as server:
        patch = pytest.MonkeyPatch()
        for name in VARIABLES:
            patch.setenv(name, server.url)
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # which needs credentials
        yield server
        patch.undo()


def test_files_go_to_the_bucket_and_come_back(server):
    here = bucket.opened("gs://files/a/run")
    (here / "hf").mkdir()
    (here / "hf" / "config.json").write_text("{}")
    (here / "metrics.jsonl").write_text("1\n")
    bucket.push(here)
    assert server.objects.names("files") == ["a/run/hf/config.json", "a/run/metrics.jsonl"]
    generations = dict(server.objects.content)
    bucket.push(here)
    assert server.objects.content == generations  # what did not change is not uploaded again
    (here / "metrics.jsonl").write_text("1\n2\n")
    bucket.push(here)
    there = bucket.opened("gs://files/a/run/")
    assert there != here
    assert (there / "metrics.jsonl").read_text() == "1\n2\n"
    assert (there / "hf" / "config.json").read_text() == "{}"
    assert str(bucket.home(there) / "x") == "gs://files/a/run/x"
    assert trackers._name(there) == trackers._name(here) == "a/run"


def test_an_object_whose_name_leads_out_of_the_copy_is_refused(server):
    server.objects.put("outside", "run/../../written", b"x", {})
    with pytest.raises(UserError, match=r"gs://outside/run lists .*outside of its directory"):
        bucket.opened("gs://outside/run")


@pytest.mark.slow
def test_a_run_in_a_bucket_resumes_from_its_newest_whole_checkpoint(
    server, finished, corpus, tmp_path, capsys
):
    url = "gs://runs/some/run"
    config = tiny(corpus, **{"corpus.directory": str(tmp_path / "store"), "total_steps": 20})
    with pytest.raises(UserError, match=r"gs://runs/some/run: .* Set config.corpus.directory"):
        train(tiny(corpus), bucket.opened(url))

    def interrupted(directory):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(finish, "finish", interrupted)
        train(config, bucket.opened(url))
    names = server.objects.names("runs")
    assert "some/run/checkpoints/20/digests.json" in names
    assert "some/run/metrics.jsonl" in names
    assert "some/run/lock" not in names
    flipped = next(n for n in names if "/20/default/ocdbt.process_0/d/" in n)
    generation, data = server.objects.content["runs", flipped]
    server.objects.content["runs", flipped] = generation, bytes([data[0] ^ 1]) + data[1:]
    del server.objects.content["runs", "some/run/checkpoints/15/commit_success.txt"]  # not complete

    said = train(config, bucket.opened(url)).said
    assert "is damaged: default/ocdbt.process_0/d/" in said
    assert f"Continuing at step 10 of 20 in {url}." in said
    assert f"fill_mask --workdir={url}" in said
    again = bucket.opened(url)
    assert records(again) == records(finished.workdir)
    assert (again / "hf" / "model.safetensors").is_file()
    assert finish.is_finished(again, 20)
    ours, theirs = load_run(again).params, load_run(finished.workdir).params
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    command = checkpoints_command
    listed = commands.run(command.define_flags, command.main, f"--workdir={url}").out
    assert listed.count("whole") == 3
    place = {"corpus.directory": str(tmp_path / "store"), "init_from": url}
    train(tiny(corpus, **place, total_steps=5), tmp_path / "run")
    assert read_config(tmp_path / "run" / CONFIG)["init_from"] == f"{url}@20"
    config.total_steps = 40  # a longer run, killed before it is finished
    claim(again, config, TokenStore.open(tmp_path / "store"))
    assert not (bucket.opened(url) / FINISHED).exists()


def test_the_lock_in_a_bucket_has_one_owner(server, monkeypatch, capsys):
    monkeypatch.setattr(lease, "HEARTBEAT", 0.1)
    monkeypatch.setattr(lease, "STALE", 0.6)
    path = bucket.BucketPath("gs://locks/run/lock")
    with exclusive(path, "in use"):
        with pytest.raises(UserError, match=rf"^in use \(process {os.getpid()} on "):
            exclusive(path, "in use").__enter__()
        assert server.objects.names("locks") == ["run/lock"]
    assert server.objects.names("locks") == []

    def left_by(host):
        path.write_text(f'{{"host": "{host}", "machine": "{host}", "pid": 1}}')

    with exclusive(path, "in use"):
        refused = []

        def without_credentials(*_, **__):
            refused.append(None)
            raise RefreshError("the credentials could not be renewed")

        with monkeypatch.context() as patch:
            patch.setattr(Blob, "upload_from_string", without_credentials)
            deadline = time.monotonic() + 30
            while not refused:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        generation, _ = server.objects.content["locks", "run/lock"]
        while server.objects.content["locks", "run/lock"][0] == generation:  # alive again
            assert time.monotonic() < deadline
            time.sleep(0.05)

    left_by("node7")
    with exclusive(path, "in use"):  # silent for STALE seconds
        assert "process 1 on node7" in capsys.readouterr().out
    left_by("node7")
    stopped = threading.Event()

    def beat():
        while not stopped.wait(0.1):
            left_by("node7")

    keeper = threading.Thread(target=beat)
    keeper.start()
    with pytest.raises(UserError, match="node7"):
        exclusive(path, "in use").__enter__()
    stopped.set()
    keeper.join()


TAKEN_OVER = """
from bert_jax.common import bucket, lease
from bert_jax.common.bucket_lock import exclusive
import time
lease.HEARTBEAT = 0.2
path = bucket.BucketPath("gs://locks/taken")
with exclusive(path, "in use"):
    path.write_text("another's")
    time.sleep(60)
"""


def test_a_holder_that_lost_its_lease_ends(server):
    ended = subprocess.run(
        [sys.executable, "-c", TAKEN_OVER],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert ended.returncode == 1
    assert "gs://locks/taken was taken over by another process" in ended.stdout
