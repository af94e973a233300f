"""The format on disk: what a store holds must not change unseen."""

import errno
import json

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import TokenStore, file_sha256, token_counts
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from tests.corpus.corpora import build_store, tiny_config

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "the", "river", "town", "##s", "old"]
TEXT = "The river. The old town.\nRivers.\n\nOld towns.\n\nThe bridge.\n\nThe old river.\n"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    (tmp_path / "text.txt").write_text(TEXT)
    config = tiny_config(
        f"text:{tmp_path}/text.txt",
        corpus_heldout_fraction=0.3,
        tokenizer_path=str(tmp_path / "vocab.txt"),
        tokenizer_lowercase=True,
    )
    return build_store(config, tmp_path / "store")


def test_a_tiny_store_is_what_it_always_was(store):
    (train,), (heldout,) = store.split("train").shards, store.split("heldout").shards
    assert " ".join(PIECES[id] for id in train.tokens) == (
        "[CLS] old town ##s . [SEP] [CLS] the [UNK] . [SEP] [CLS] the old river . [SEP]"
    )
    assert train.document_offsets.tolist() == [0, 6, 11, 17]
    assert train.sentence_offsets.tolist() == [1, 7, 12]
    assert train.document_sentences.tolist() == [0, 1, 2, 3]
    assert " ".join(PIECES[id] for id in heldout.tokens) == (
        "[CLS] the river . the old town . river ##s . [SEP]"
    )
    assert heldout.sentence_offsets.tolist() == [1, 4, 8]
    hashes = {
        name: file_sha256(store.directory / "train" / "00000" / f"{name}.npy")[:16]
        for name in ("tokens", "document_offsets", "sentence_offsets", "document_sentences")
    }
    assert hashes == {
        "tokens": "8a1b7ac4e33f188c",
        "document_offsets": "45dd7b430f239124",
        "sentence_offsets": "2fb03c225337b75e",
        "document_sentences": "dc5de563b86c3210",
    }


def test_the_manifest_tells_what_is_there(store):
    manifest = store.manifest
    assert manifest["format_version"] == 2
    assert manifest["splits"]["train"]["shards"] == ["train/00000"]
    assert len(manifest["splits"]["train"]["sources"]) == 1
    assert manifest["splits"]["train"]["unknown"] == 1
    assert manifest["sources"][0]["bytes"] == len(TEXT)
    on_disk = {
        str(path.relative_to(store.directory))
        for path in store.directory.rglob("*")
        if path.is_file()
    }
    assert on_disk - set(manifest["files"]) == {
        *("manifest.json", "report.json", "report.html", "token_counts.npy")
    }


def test_the_counts_of_the_ids_are_at_hand(store):
    expected = [0, 1, 0, 0, 0, 3, 2, 1, 1, 1, 2]
    assert store.token_counts.tolist() == expected
    path = store.directory / "token_counts.npy"
    written = path.read_bytes()
    for damaged in (None, b"", written[:-8], written[:-8] + bytes(8)):  # None: of an older version
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        assert TokenStore.open(store.directory).token_counts.tolist() == expected
        assert path.read_bytes() == written
    assert TokenStore.open(store.directory).fingerprint == store.fingerprint


def test_a_store_that_cannot_be_written_is_counted_each_time(store, monkeypatch):
    (store.directory / "token_counts.npy").unlink()

    def refuse(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(token_counts, "write_array", refuse)
    assert TokenStore.open(store.directory).token_counts.sum() == 11
    assert not list(store.directory.glob("token_counts*"))


def test_large_vocabularies_have_wider_tokens():
    masks = np.zeros(1 << 17, bool)
    sizes = {1 << 16: np.uint16, (1 << 16) + 1: np.uint32}
    for size, dtype in sizes.items():
        vocabulary = Vocabulary(size, 0, 1, 2, 3, 4, masks[:size], masks[:size])
        assert vocabulary.token_dtype == dtype


@pytest.mark.parametrize("content", ["", "{", "[]", '{"size": 3}', '{"size": 2, "special": [7]}'])
def test_a_damaged_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(UserError, match=r"vocabulary\.json is damaged"):
        Vocabulary.load(tmp_path)


def test_what_is_no_store_is_refused(tmp_path, store):
    with pytest.raises(UserError, match="holds no finished token store"):
        TokenStore.open(tmp_path / "nothing")
    manifest = store.directory / "manifest.json"
    content = manifest.read_text()
    manifest.write_text(content[: len(content) // 2])
    with pytest.raises(UserError, match="is not a token store's manifest"):
        TokenStore.open(store.directory)
    for version in (1, 3):
        manifest.write_text(json.dumps({**json.loads(content), "format_version": version}))
        with pytest.raises(UserError, match=f"has format version {version}, .* reads version 2"):
            TokenStore.open(store.directory)
    changed = json.loads(content)
    changed["files"]["train/00000/tokens.npy"]["sha256"] = "0" * 64
    for values in (changed, {"format_version": 2}, {"format_version": 2, "files": 3}):
        manifest.write_text(json.dumps(values))
        with pytest.raises(UserError, match=r"is damaged: its manifest\.json was changed"):
            TokenStore.open(store.directory)
    manifest.write_text(content)
    (store.directory / "tokenizer" / "vocabulary.json").unlink()
    with pytest.raises(UserError, match=r"vocabulary\.json is missing"):
        TokenStore.open(store.directory)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("tokens", b"not an array", r"tokens\.npy is missing or damaged"),
        ("tokens", None, r"tokens\.npy is missing or damaged"),
        ("tokens", np.zeros(3, np.int64), "are not those of a shard"),
        ("sentence_offsets", np.zeros((2, 2), np.int64), "are not those of a shard"),
        ("tokens", np.zeros(3, np.uint16), "do not belong together"),
        ("document_sentences", np.array([0, 3]), "do not belong together"),
    ],
)
def test_shards_whose_arrays_are_not_whole_are_refused(store, name, values, message):
    path = store.directory / "train" / "00000" / f"{name}.npy"
    path.unlink()
    if isinstance(values, bytes):
        path.write_bytes(values)
    elif values is not None:
        np.save(path, values)
    with pytest.raises(UserError, match=f"{message}.*prepare it again"):
        store.split("train")
