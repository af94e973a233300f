"""Files from elsewhere run no code and write nothing outside; nothing is fetched, nothing leaks."""

import ast
import json
import os
import shutil
import socket

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.common.inside import inside
from bert_jax.config import parse
from bert_jax.corpus.store import MANIFEST, TokenStore, token_counts
from bert_jax.corpus.store.token_store import fingerprint
from bert_jax.interop.tensor_files import read_tensors
from bert_jax.run import finish
from bert_jax.run.workdir import FINISHED, HUGGING_FACE, TOKEN_ORDER, saved_token_order
from bert_jax.tasks import cache
from tests.runs import ROOT, tiny


class RunsCode:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def pickled(tmp_path):
    """`pickled(path)` writes a .npy file that would make `pickled.made` when it is unpickled."""

    def write(path):
        with path.open("wb") as file:
            np.save(file, np.array([RunsCode(write.made)], dtype=object), allow_pickle=True)

    write.made = tmp_path / "made by the pickle"
    write(tmp_path / "check.npy")
    np.load(tmp_path / "check.npy", allow_pickle=True)
    assert write.made.is_dir()  # it does, for whoever allows it
    write.made.rmdir()
    return write


@pytest.fixture
def store(finished, tmp_path):
    shutil.copytree(finished.workdir / "corpus", tmp_path / "corpus")
    return TokenStore.open(tmp_path / "corpus")


def change_manifest(store, change):
    """Change the manifest as one would who also computes its fingerprint."""
    path = store.directory / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest["fingerprint"] = fingerprint(manifest)
    path.write_text(json.dumps(manifest))


def test_arrays_that_are_pickles_run_no_code(pickled, store, tmp_path):
    tokens = store.directory / store.manifest["splits"]["train"]["shards"][0] / "tokens.npy"
    pickled(tokens)
    with pytest.raises(UserError, match=r"tokens\.npy is missing or damaged"):
        store.split("train")
    pickled(store.directory / token_counts.FILE)
    assert token_counts.read_counts(store.directory, store.vocabulary.size, 1) is None
    pickled(tmp_path / TOKEN_ORDER)
    settings = parse(tiny("text:unused", **{"model.head": "sampled"}))
    with pytest.raises(UserError, match=rf"{TOKEN_ORDER} is damaged"):
        saved_token_order(tmp_path, settings)
    with (tmp_path / "rows.npz").open("wb") as file:
        np.savez(file, group=np.array([RunsCode(pickled.made)], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        cache.read(tmp_path / "rows.npz")
    assert not pickled.made.exists()


def test_weights_that_are_pickles_run_no_code_even_where_pickles_are_allowed(tmp_path):
    torch = pytest.importorskip("torch")
    made = tmp_path / "made"
    torch.save({"a": RunsCode(made)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"is a pickle.*--allow_pickle"):
        read_tensors(tmp_path)
    with pytest.raises(UserError, match="is no file of tensors alone"):
        read_tensors(tmp_path, allow_pickle=True)
    assert not made.exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ".."])
def test_a_name_that_leads_out_of_its_directory_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="outside of its directory"):
        inside(tmp_path, name, "the list")
    assert inside(tmp_path, "a/..x", "the list") == tmp_path / "a" / "..x"


def test_a_token_store_reads_no_file_outside_of_its_directory(store):
    change_manifest(store, lambda m: m["files"].update({"../x": {"bytes": 0, "sha256": ""}}))
    with pytest.raises(
        UserError, match=r"manifest\.json lists the file '\.\./x', which is outside"
    ):
        TokenStore.open(store.directory)


def test_a_token_store_opens_no_shard_outside_of_its_directory(store):
    change_manifest(store, lambda m: m["splits"]["train"]["shards"].insert(0, "../corpus/x"))
    change_manifest(store, lambda m: m["splits"]["train"]["sources"].insert(0, "x"))
    with pytest.raises(UserError, match="outside of its directory"):
        TokenStore.open(store.directory).split("train")


def test_an_index_of_shards_names_files_of_its_own_folder_alone(finished, tmp_path):
    outside, folder = tmp_path / "outside.safetensors", tmp_path / "folder"
    folder.mkdir()
    shutil.copy(finished.workdir / HUGGING_FACE / "model.safetensors", outside)
    for name in ("../outside.safetensors", str(outside)):
        index = {"weight_map": {"a": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UserError, match=r"lacks .*outside\.safetensors"):
            read_tensors(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors.index.json"]


def test_every_from_pretrained_reads_local_files_only():
    calls = [
        (path, node)
        for directory in ("bert_jax", "benchmarks")
        for path in sorted((ROOT / directory).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", ""))
        in ("from_pretrained", "SentenceTransformer")
    ]
    assert len(calls) >= 5
    for path, call in calls:
        arguments = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert arguments.get("local_files_only") == "True", f"{path}:{call.lineno}"


def test_the_end_of_a_run_connects_to_nothing(finished, tmp_path, monkeypatch, capsys):
    """Export, comparison and report, with libraries that believe the network is there."""
    import huggingface_hub.constants

    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    shutil.rmtree(workdir / HUGGING_FACE)
    (workdir / FINISHED).unlink()
    tried = []

    def refuse(self, address):
        tried.append(address)
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    finish.finish(workdir)
    assert "Its logits under transformers are within" in capsys.readouterr().out
    assert tried == []


def test_no_environment_variable_is_in_what_a_run_writes_and_prints(finished):
    secret = os.environ["SOMEBODYS_API_KEY"]  # since before the run began
    files = [path for path in finished.workdir.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert names > {"config.json", "metrics.jsonl", "report.html", "README.md"}
    for path in files:
        assert secret.encode() not in path.read_bytes(), path
    assert secret not in finished.said + finished.logged
