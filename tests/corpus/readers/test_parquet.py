import dataclasses

import pyarrow
import pytest
from pyarrow import parquet

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import parquet as source
from bert_jax.corpus.readers.parquet import list_parts
from bert_jax.corpus.settings import Reading
from tests.corpus.corpora import build_store, documents, read, tiny_config

TEXTS = documents(40)
READING = Reading(documents="blank_line", field="text", invalid_utf8="refuse")


@pytest.fixture
def path(tmp_path):
    table = pyarrow.table(
        {
            "id": list(range(41)),
            "meta": [{"text": "no"}] * 41,
            "text": [*("\n".join(text) for text in TEXTS), None],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    return tmp_path / "a.parquet"


def test_a_row_is_a_document_whatever_the_parts(path, monkeypatch):
    (whole,) = list_parts(str(path), READING)
    assert list(whole.documents()) == [*TEXTS, []]
    monkeypatch.setattr(source, "range_bytes", lambda total: 1)
    parts = list_parts(str(path), READING)
    assert len(parts) == 6
    assert [document for part in parts for document in part.documents()] == [*TEXTS, []]


def test_columns_that_are_missing_or_no_text_are_refused(path):
    with pytest.raises(UserError, match=r"field='body'; there is: id, meta\.text, text"):
        list_parts(str(path), dataclasses.replace(READING, field="body"))
    with pytest.raises(UserError, match=r"field='id' holds int64, not text"):
        list_parts(str(path), dataclasses.replace(READING, field="id"))


def test_a_file_without_a_row_group_is_a_part_without_documents(tmp_path, path):
    schema = parquet.read_schema(path)
    with parquet.ParquetWriter(tmp_path / "empty.parquet", schema):
        pass
    parts = list_parts(str(tmp_path), READING)
    assert [len(list(part.documents())) for part in parts] == [41, 0]
    config = tiny_config(f"parquet:{tmp_path}/*.parquet")
    store = build_store(config, tmp_path / "store")
    assert build_store(config, tmp_path / "store").fingerprint == store.fingerprint


def test_damaged_files_are_named(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.parquet is no parquet file, or damaged"):
        list_parts(str(path), READING)
    path.write_bytes(content[:40] + b"\xff" * 400 + content[440:])
    with pytest.raises(UserError, match=r"a\.parquet is no parquet file, or damaged"):
        [list(part.documents()) for part in list_parts(str(path), READING)]


STRINGS = ["one\ntwo", None, "漢字"]
PARAGRAPHS = [["one", "two"], [], ["漢字"]]


def written(tmp_path, **columns):
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    return f"parquet:{tmp_path}/a.parquet"


@pytest.mark.parametrize(
    "column",
    [
        *(pyarrow.array(STRINGS, kind) for kind in (pyarrow.large_string(), pyarrow.string_view())),
        *(
            pyarrow.array([text and text.encode() for text in STRINGS], kind)
            for kind in (pyarrow.binary(), pyarrow.large_binary(), pyarrow.binary_view())
        ),
        pyarrow.array(STRINGS).dictionary_encode(),
        pyarrow.array([["one", "two"], None, ["漢字"]]),
        pyarrow.array([["one", None, "two"], [], ["漢字"]], pyarrow.large_list(pyarrow.string())),
        pyarrow.array([[["one"], ["two"]], [None], [["漢字"]]]),
    ],
    ids=lambda column: str(column.type),
)
def test_every_way_to_write_text_is_text(tmp_path, column):
    assert read(written(tmp_path, text=column)) == PARAGRAPHS


def test_missing_text_and_text_of_a_fixed_size(tmp_path):
    source = written(
        tmp_path, text=pyarrow.nulls(2), cut=pyarrow.array([b"abc"] * 2, pyarrow.binary(3))
    )
    assert read(source) == [[], []]
    assert read(source, corpus_field="cut") == [["abc"], ["abc"]]


def test_fields_within_fields(tmp_path):
    source = written(
        tmp_path,
        meta=[{"id": 1, "text": "one\ntwo"}, None, {"id": 3, "text": "漢字"}],
        notes=[[{"by": "x", "text": "one"}, {"by": "y", "text": "two"}], [], [{"text": "漢字"}]],
        **{"flat.text": ["one\ntwo", None, "漢字"]},
    )
    for field in ("meta.text", "notes.text", "flat.text"):
        assert read(source, corpus_field=field) == PARAGRAPHS
    with pytest.raises(UserError, match=r"'meta\.title'; there is: meta\.id, meta\.text, notes"):
        read(source, corpus_field="meta.title")
    with pytest.raises(UserError, match=r"'meta\.id' holds int64, not text"):
        read(source, corpus_field="meta.id")
    with pytest.raises(UserError, match=r"'meta' holds struct<.*>, not text"):
        read(source, corpus_field="meta")


@pytest.mark.parametrize("nest", ["text", "binary", "dictionary", "view", "list", "struct"])
def test_bytes_that_are_not_utf8_are_refused_by_row_or_left_for_cleaning(tmp_path, nest):
    raw = pyarrow.array([b"fine"] * 300 + [b"bad \xff", None], pyarrow.binary())
    text = raw.view(pyarrow.string())  # not checked, as other writers do not check either
    columns = {
        "text": text,
        "binary": raw,
        "dictionary": text.dictionary_encode(),
        "view": raw.cast(pyarrow.binary_view()).view(pyarrow.string_view()),
        "list": pyarrow.ListArray.from_arrays(range(303), text),
        "struct": pyarrow.StructArray.from_arrays([text], ["inner"]),
    }
    source = written(tmp_path, text=columns[nest])
    field = "text.inner" if nest == "struct" else "text"
    with pytest.raises(UserError, match=r"a\.parquet, row 300 is not UTF-8 text: byte 0xff at off"):
        read(source, corpus_field=field)
    found = read(source, corpus_field=field, corpus_invalid_utf8="replace")
    assert found == [["fine"]] * 300 + [["bad \udcff"], []]
