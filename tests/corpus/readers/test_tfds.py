import shutil
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import tfds
from bert_jax.corpus.settings import Reading
from tests.corpus.corpora import build_store, documents, tiny_config, write_text

TEXTS = documents(120)
NESTED = {"tags": ["B", "O"], "answers": {"text": ["one"], "start": [0]}}
EMPTY = {"body": "", "year": 2, "tags": [], "answers": {"text": [], "start": []}}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    import tensorflow_datasets
    from tensorflow_datasets import features

    data_dir = tmp_path_factory.mktemp("tfds")
    texts = ["\n".join(text) for text in TEXTS]
    tensorflow_datasets.dataset_builders.store_as_tfds_dataset(
        name="stories",
        version="1.0.0",
        features=features.FeaturesDict(
            {"body": features.Text(), "year": np.int64}
            | {"tags": features.Sequence(features.ClassLabel(names=["O", "B"]))}
            | {"answers": features.Sequence({"text": features.Text(), "start": np.int32})}
        ),
        split_datasets={
            "train": [(i, {"body": text, "year": i} | NESTED) for i, text in enumerate(texts)],
            "test": [(0, {"body": "one\ntwo", "year": 1} | NESTED), (1, EMPTY)],
        },
        data_dir=str(data_dir),
        disable_shuffling=True,
    )
    return data_dir


def reading(data_dir, field="body"):
    return Reading("blank_line", field, "refuse", str(data_dir))


def test_an_example_is_a_document_whatever_the_parts(data_dir, monkeypatch):
    (test,) = tfds.list_parts("stories:test", reading(data_dir))
    assert list(test.documents()) == [["one", "two"], []]
    monkeypatch.setattr(tfds, "range_bytes", lambda total: total // 3)
    parts = tfds.list_parts("stories:1.0.0", reading(data_dir))
    assert len(parts) > 2
    assert [document for part in parts for document in part.documents()] == TEXTS


@given(data=st.data())
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_records_give_documents_or_one_message(data_dir, tmp_path_factory, data):
    copy = tmp_path_factory.mktemp("copy") / "tfds"
    shutil.copytree(data_dir, copy)
    (records,) = copy.rglob("*train*tfrecord*")
    content = bytearray(records.read_bytes())
    for _ in range(data.draw(st.integers(0, 2))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    whole = content == records.read_bytes()
    cut = data.draw(st.sampled_from([len(content), len(content) - 1, len(content) // 2, 0]))
    records.write_bytes(content[:cut])
    parts = tfds.list_parts("stories", reading(copy))
    if whole and cut == len(content):
        assert [document for part in parts for document in part.documents()] == TEXTS
    else:
        with pytest.raises(UserError, match=r"^tfds:stories is damaged \(") as error:
            [list(part.documents()) for part in parts]
        assert "\n" not in str(error.value)


def test_a_data_set_that_ends_early_is_damaged(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "copy")
    (records,) = (tmp_path / "copy").rglob("*train*tfrecord*")
    content = records.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    records.write_bytes(content[: 8 + 4 + size + 4])  # the first record: length, text, checksums
    parts = tfds.list_parts("stories", reading(tmp_path / "copy"))
    with pytest.raises(UserError, match=r"^tfds:stories is damaged \(.* contained only 1 element"):
        [list(part.documents()) for part in parts]


def test_a_store_is_made_of_it(data_dir, tmp_path):
    config = tiny_config("tfds:stories", corpus_field="body", corpus_data_dir=str(data_dir))
    store = build_store(config, tmp_path / "store")
    path = write_text(tmp_path / "a.txt", TEXTS)
    assert store.fingerprint == build_store(tiny_config(f"text:{path}"), tmp_path / "b").fingerprint
    assert build_store(config, tmp_path / "store").fingerprint == store.fingerprint


def test_what_is_not_there_is_refused_with_what_is(data_dir):
    with pytest.raises(UserError, match=r"no text feature config.corpus.field='text'.*is: body"):
        tfds.list_parts("stories", reading(data_dir, "text"))
    with pytest.raises(UserError, match=r"no split 'valid'; there is: t.*, t"):
        tfds.list_parts("stories:valid", reading(data_dir))
    with pytest.raises(UserError, match=r"'tfds:tales' cannot be loaded"):
        tfds.list_parts("tales", reading(data_dir))
    with pytest.raises(UserError, match=r"write tfds:NAME"):
        tfds.list_parts("a:b:c", reading(data_dir))


def test_labelled_examples_are_plain_values(data_dir):
    found = list(tfds.labelled("stories:test", str(data_dir)))
    assert found == [{"body": "one\ntwo", "year": 1} | NESTED, EMPTY]
    with pytest.raises(UserError, match="tfds:stories:dev cannot be loaded"):
        next(tfds.labelled("stories:dev", str(data_dir)))
