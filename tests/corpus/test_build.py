import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import parse
from bert_jax.corpus.filters.dedup import document_hash
from bert_jax.corpus.filters.heldout import heldout_below
from bert_jax.corpus.filters.sentences import split_sentences
from bert_jax.corpus.readers import files
from bert_jax.corpus.scratch import building
from bert_jax.corpus.store import MANIFEST, TokenStore
from bert_jax.corpus.tokenizers.load import load_tokenizer
from bert_jax.stream.batches import TrainBatches
from tests.corpus.corpora import (
    FILES_APART,
    build_store,
    contents,
    documents,
    third,
    tiny_config,
    write_text,
)
from tests.corpus.store.test_arrays import documents_of

TEXTS = documents(120)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "range_bytes", third)
    for index in range(4):
        write_text(tmp_path / "text" / f"{index}.txt", TEXTS[index * 30 : index * 30 + 30])
    return f"text:{tmp_path}/text/*.txt"


def texts_of(store, split):
    tokenizer = load_tokenizer(store.tokenizer_directory)
    return [
        [tokenizer.decode(ids) for ids in document]
        for shard in store.split(split).shards
        for document in documents_of(shard)
    ]


def test_the_store_holds_the_text(source, tmp_path):
    store = build_store(tiny_config(source, corpus_split_sentences=False), tmp_path / "store")
    border = heldout_below(0.2)
    heldout = [text for text in TEXTS if document_hash(text) < border]
    assert texts_of(store, "heldout") == heldout
    assert texts_of(store, "train") == [text for text in TEXTS if text not in heldout]
    counts = store.manifest["splits"]["train"]
    train = store.split("train")
    assert counts["documents"] == train.num_documents == 120 - len(heldout)
    assert counts["sentences"] == train.num_sentences
    assert counts["tokens"] == train.num_tokens
    assert train.shards[0].tokens.dtype == np.uint16
    store.verify()


def test_sentences_are_kept_apart(source, tmp_path):
    store = build_store(tiny_config(source), tmp_path / "store")
    border = heldout_below(0.2)
    assert texts_of(store, "train") == [
        [sentence for paragraph in text for sentence in split_sentences(paragraph, "en")]
        for text in TEXTS
        if document_hash(text) >= border
    ]


def test_bytes_do_not_depend_on_workers(source, tmp_path):
    for workers in (1, 2, 4):
        build_store(tiny_config(source, corpus_workers=workers), tmp_path / f"store{workers}")
    first = contents(tmp_path / "store1")
    assert len(first) == 6 + 4 * 2 * 4  # manifest, report, counts, tokenizer; shards
    assert contents(tmp_path / "store2") == first
    assert contents(tmp_path / "store4") == first


def test_the_split_of_a_document_stays_when_files_are_added(source, tmp_path):
    before = build_store(tiny_config(source, corpus_split_sentences=False), tmp_path / "before")
    write_text(tmp_path / "text" / "00.txt", documents(30, seed=1))
    after = build_store(tiny_config(source, corpus_split_sentences=False), tmp_path / "after")
    old = {tuple(text) for text in texts_of(before, "heldout")}
    new = {tuple(text) for text in texts_of(after, "heldout")}
    assert old < new


def test_a_small_corpus_has_a_floor_of_held_out_documents(tmp_path):
    texts = documents(445, seed=1)
    source = f"text:{write_text(tmp_path / 'a.txt', texts)}"
    config = tiny_config(source, corpus_heldout_fraction=0.005, corpus_split_sentences=False)
    store = build_store(config, tmp_path / "store")
    start = int(store.manifest["heldout"]["start"], 16)
    chosen = [text for text in texts if document_hash(text) < heldout_below(0.005)]
    assert 0 < len(chosen) < 6
    chosen += [text for text in texts if document_hash(text) >= start]
    heldout = texts_of(store, "heldout")
    assert sorted(heldout) == sorted(chosen)
    assert 20 <= len(heldout) <= 45
    facts = json.loads((tmp_path / "store" / "report.json").read_text())
    assert facts["heldout_share"] == pytest.approx(len(heldout) / 445, rel=0.5)
    page = (tmp_path / "store" / "report.html").read_text()
    assert "(more than heldout_fraction: the corpus is small)" in page
    config.stream.objective = "nsp"
    assert build_store(config, tmp_path / "store").fingerprint == store.fingerprint


def test_an_existing_store_is_opened_at_once(source, tmp_path):
    config = tiny_config(source)
    first = build_store(config, tmp_path / "store")
    shutil.rmtree(tmp_path / "text")  # needed no more
    config.corpus.workers = 3
    assert build_store(config, tmp_path / "store").fingerprint == first.fingerprint


def test_another_store_is_refused_with_the_difference(source, tmp_path):
    build_store(tiny_config(source), tmp_path / "store")
    with pytest.raises(UserError, match=r"config\.tokenizer\.vocab_size is 200 there and 210 here"):
        build_store(tiny_config(source, tokenizer_vocab_size=210), tmp_path / "store")
    write_text(tmp_path / "text" / "1.txt", TEXTS[:31])
    with pytest.raises(UserError, match=r"1\.txt had \d+ bytes and has \d+ now"):
        build_store(tiny_config(source), tmp_path / "store")


def test_a_directory_with_other_things_is_refused(source, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is no token store"):
        build_store(tiny_config(source), tmp_path / "other")
    assert contents(tmp_path / "other") == {"thesis.txt": b"mine"}


def test_duplicates_are_removed_and_counted(tmp_path):
    long = "This paragraph is long enough to be noticed when it is said for a second time."
    extra = [["Unique title.", long], ["Another title.", long, "And more."], [long]]
    source = f"text:{write_text(tmp_path / 'a.txt', [*TEXTS, *TEXTS[:5], *extra])}"
    store = build_store(tiny_config(source), tmp_path / "store")
    assert store.manifest["removed"]["duplicate_documents"] == 5
    found = texts_of(store, "train") + texts_of(store, "heldout")
    assert sum(long in document for document in found) == 1
    assert len(found) == 120 + 2  # the last one has nothing left
    kept = build_store(tiny_config(source, corpus_deduplicate=False), tmp_path / "kept")
    assert len(texts_of(kept, "train") + texts_of(kept, "heldout")) == 120 + 5 + 3
    assert set(kept.manifest["removed"].values()) == {0}


def test_a_document_of_one_enormous_sentence_is_kept_in_pieces(tmp_path):
    enormous = "toba " * 60_000 + "x" * 100_000
    source = f"text:{write_text(tmp_path / 'a.txt', [*TEXTS, [enormous]])}"
    config = tiny_config(source, corpus_deduplicate=False, stream_objective="nsp")
    store = build_store(config, tmp_path / "store")
    found = texts_of(store, "train") + texts_of(store, "heldout")
    (whole,) = [text for text in found if "toba toba toba toba" in text[0]]
    assert len(whole) == 7  # at most 65,536 characters each
    assert "".join("".join(whole).split()).count("toba") == 60_000
    batch = TrainBatches(store, parse(config).stream).batch(0)
    assert batch["input_ids"].shape == (32, 128)


def test_large_files_are_cut_into_parts_without_loss(tmp_path, monkeypatch):
    source = f"text:{write_text(tmp_path / 'a.txt', TEXTS)}"
    whole = build_store(tiny_config(source), tmp_path / "whole")
    monkeypatch.setattr(files, "range_bytes", lambda total: -(-total // 5))
    parts = build_store(tiny_config(source), tmp_path / "parts")
    assert len(parts.split("train").shards) == 5
    assert parts.manifest["sources"] == whole.manifest["sources"]
    assert texts_of(parts, "train") == texts_of(whole, "train")


def test_small_files_share_shards(tmp_path):
    for number, text in enumerate(documents(400)):
        write_text(tmp_path / "text" / f"{number:03d}.txt", [text])
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); "
        "from tests.corpus.corpora import build_store; "
        "from tests.corpus.corpora import tiny_config; "
        f"config = tiny_config('text:{tmp_path}/text', corpus_documents='file'); "
        f"store = build_store(config, {str(tmp_path / 'store')!r}); "
        "print(store.split('train').num_documents + store.split('heldout').num_documents)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "400\n", result.stderr
    files_of_store = TokenStore.open(tmp_path / "store").manifest["sources"]
    assert len(files_of_store) == 400
    assert {file["documents"] for file in files_of_store} == {1}
    assert all(file["train"]["tokens"] + file["heldout"]["tokens"] > 2 for file in files_of_store)


def test_too_many_shards_for_the_limit_of_open_files_are_told(source, tmp_path):
    build_store(tiny_config(source), tmp_path / "store")
    code = (
        "import resource; from bert_jax.corpus.store import TokenStore; "
        f"store = TokenStore.open({str(tmp_path / 'store')!r}); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12)); store.split('train')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "as many files open as it may" in result.stderr
    assert "delete" not in result.stderr


def test_the_figures_of_files_do_not_depend_on_the_shards(source, tmp_path):
    apart = build_store(tiny_config(source), tmp_path / "apart")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "range_bytes", lambda total: total)
        together = build_store(tiny_config(source), tmp_path / "together")
    assert [len(store.split("train").shards) for store in (apart, together)] == [4, 1]
    assert together.manifest["sources"] == apart.manifest["sources"]
    assert texts_of(together, "train") == texts_of(apart, "train")


def test_an_existing_sentencepiece_model_is_used_as_it_is(source, tmp_path):
    first = build_store(tiny_config(source), tmp_path / "first")
    model = first.tokenizer_directory / "sentencepiece.model"
    second = build_store(tiny_config(source, tokenizer_path=str(model)), tmp_path / "second")
    assert second.fingerprint == first.fingerprint
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("texts", "fields", "message"),
    [
        (TEXTS[:1], {}, "holds 1 document, .*documents=blank_line a document ends at a blank line"),
        ([TEXTS[0], TEXTS[0]], {}, "holds 1 document, duplicates left out, and two are the least"),
        (TEXTS[:9], {"corpus_documents": "file"}, "=file each file is a document; if a document"),
        (TEXTS, {"corpus_heldout_fraction": 0.0}, "leaves no document .* in the heldout split"),
        (
            TEXTS[:9],
            {"stream_objective": "nsp", "corpus_heldout_fraction": 0.001},
            "leaves 1 document of .* in the heldout split, and .*objective=nsp needs 2: "
            "set it to 0.*, or add documents, or set config.stream.objective=packed",
        ),
        (TEXTS, {"corpus_heldout_fraction": 1.0}, "leaves no document .* in the train split"),
        (TEXTS, {"tokenizer_vocab_size": 9000}, "vocab_size=9000: .*; lower it, best to well"),
    ],
)
def test_what_cannot_work_is_refused_and_mended_by_a_second_try(
    tmp_path, texts, fields, message, capsys
):
    source = f"text:{write_text(tmp_path / 'a.txt', texts)}"
    with pytest.raises(UserError, match=message):
        build_store(tiny_config(source, **fields), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert f"note: {tmp_path}/store.partial keeps the parts" in capsys.readouterr().err
    write_text(tmp_path / "a.txt", TEXTS)
    build_store(tiny_config(source), tmp_path / "store")


def test_the_fraction_that_a_refusal_names_is_enough(tmp_path):
    config = tiny_config(
        f"text:{write_text(tmp_path / 'a.txt', TEXTS[:9])}", stream_objective="nsp"
    )
    config.corpus.heldout_fraction, config.tokenizer.vocab_size = 0.001, 100
    with pytest.raises(UserError) as refused:
        build_store(config, tmp_path / "store")
    config.corpus.heldout_fraction = float(re.search(r"set it to ([\d.]+)", str(refused.value))[1])
    store = build_store(config, tmp_path / "store")
    assert store.split("heldout").num_documents == 2


def test_a_refused_build_with_no_part_finished_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"bad \xff")
    with pytest.raises(UserError, match="is not UTF-8"):
        build_store(tiny_config(f"text:{tmp_path}/a.txt"), tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_errors_of_workers_reach_the_user(source, tmp_path):
    (tmp_path / "text" / "2.txt").write_bytes(b"bad \xff")
    with pytest.raises(UserError, match=r"2\.txt is not UTF-8"):
        build_store(tiny_config(source, corpus_workers=2), tmp_path / "store")


def test_a_damaged_store_is_noticed(source, tmp_path):
    store = build_store(tiny_config(source), tmp_path / "store")
    tokens = store.directory / "train" / "00001" / "tokens.npy"
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(UserError, match=r"the content of train/00001/tokens\.npy"):
        TokenStore.open(store.directory).verify()
    tokens.write_bytes(content[:-2])
    with pytest.raises(UserError, match=r"train/00001/tokens\.npy has \d+ bytes"):
        TokenStore.open(store.directory)
    (store.directory / MANIFEST).write_text('{"format_version": 99}')
    with pytest.raises(UserError, match="format version 99"):
        TokenStore.open(store.directory)


def test_a_second_build_at_the_same_time_is_refused(source, tmp_path, monkeypatch):
    with building(tmp_path / "store"), pytest.raises(UserError, match="another process is prepar"):
        build_store(tiny_config(source), tmp_path / "store")

    def flock(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")  # Lustre mounted without flock

    monkeypatch.setattr(fcntl, "flock", flock)
    with building(tmp_path / "store"), pytest.raises(UserError, match="another process is prepar"):
        build_store(tiny_config(source), tmp_path / "store")
    build_store(tiny_config(source), tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "text"]


class Killed(BaseException):
    """In place of a signal that comes while directories are deleted."""


def killed_while_deleting(monkeypatch, name, build):
    """Runs `build`, which ends when it has deleted a file below a directory `name`."""
    with monkeypatch.context() as patch:

        def delete_one(path, **options):
            if Path(path).name != name:
                return rmtree(path, **options)
            next(file for file in Path(path).rglob("*.npy")).unlink()
            raise Killed

        rmtree = shutil.rmtree
        patch.setattr(shutil, "rmtree", delete_one)
        with pytest.raises(Killed):
            build()


def test_a_build_that_is_killed_while_it_cleans_up_is_made_again(source, tmp_path, monkeypatch):
    unbroken = build_store(tiny_config(source), tmp_path / "unbroken")
    directory = tmp_path / "store"
    killed_while_deleting(monkeypatch, "work", lambda: build_store(tiny_config(source), directory))
    assert (tmp_path / "store.partial" / "work").is_dir()
    build_store(tiny_config(source), directory)
    assert contents(directory) == contents(unbroken.directory)


def test_a_build_that_is_killed_while_it_removes_another_one_is_made(source, tmp_path, monkeypatch):
    directory = tmp_path / "store"
    with pytest.raises(UserError):  # leaves its surveys there
        build_store(tiny_config(source, tokenizer_vocab_size=9000), directory)
    other = tiny_config(source)
    killed_while_deleting(monkeypatch, "work", lambda: build_store(other, directory))
    with pytest.raises(UserError, match="too small for"):
        build_store(tiny_config(source, tokenizer_vocab_size=9000), directory)
    build_store(other, directory).verify()


def test_a_file_that_changed_since_the_build_was_killed_is_read_again(source, tmp_path):
    with pytest.raises(UserError):
        build_store(tiny_config(source, tokenizer_vocab_size=9000), tmp_path / "store")
    survey = tmp_path / "store.partial" / "work" / "survey-00001"
    before = (survey / "sample.txt").read_text()
    path = tmp_path / "text" / "1.txt"
    path.write_text(path.read_text().swapcase())
    with pytest.raises(UserError):
        build_store(tiny_config(source, tokenizer_vocab_size=9000), tmp_path / "store")
    assert (survey / "sample.txt").read_text() != before


def test_killed_builds_go_on_and_give_the_same_bytes(source, tmp_path):
    unbroken = build_store(tiny_config(source), tmp_path / "unbroken")
    directory = tmp_path / "store"
    code = (
        f"{FILES_APART}; from tests.corpus.corpora import tiny_config; "
        "from tests.corpus.corpora import build_store; "
        f"build_store(tiny_config({source!r}), {str(directory)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=os.getcwd())
    first_shard = tmp_path / "store.partial" / "work" / "encoded-00000"
    while not first_shard.exists() and process.poll() is None:
        time.sleep(0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not directory.exists()
    made = (first_shard / "train" / "tokens.npy").stat().st_mtime_ns
    store = build_store(tiny_config(source), directory)
    assert contents(directory) == contents(unbroken.directory)
    shard = store.directory / "train" / "00000" / "tokens.npy"
    assert shard.stat().st_mtime_ns == made  # not made again
