import pyarrow
import pytest
from pyarrow import parquet

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import parquet as source
from bert_jax.corpus.readers.parquet import list_parts
from tests.corpus.corpora import documents

TEXTS = documents(40)


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
    (whole,) = list_parts(str(path), "text")
    assert list(whole.documents()) == [*TEXTS, []]
    monkeypatch.setattr(source, "range_bytes", lambda total: 1)
    parts = list_parts(str(path), "text")
    assert len(parts) == 6
    assert [document for part in parts for document in part.documents()] == [*TEXTS, []]


def test_columns_that_are_missing_or_no_text_are_refused(path):
    with pytest.raises(UserError, match=r"field='body'; there is: id, meta, text"):
        list_parts(str(path), "body")
    with pytest.raises(UserError, match=r"field='id' holds int64, not text"):
        list_parts(str(path), "id")


def test_damaged_files_are_named(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.parquet is no parquet file, or damaged"):
        list_parts(str(path), "text")
    path.write_bytes(content[:40] + b"\xff" * 400 + content[440:])
    with pytest.raises(UserError, match=r"a\.parquet is no parquet file, or damaged"):
        [list(part.documents()) for part in list_parts(str(path), "text")]
