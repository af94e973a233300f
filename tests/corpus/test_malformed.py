"""Whatever bytes a file holds, reading gives documents or one clear message."""

import gzip
import io
import lzma

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bert_jax.common.errors import UserError
from tests.corpus.corpora import read

TEXT = "A first document.\n\nA second one, für alle.\nWith two lines.\n".encode() * 40
JSON = b'{"text": "A first document."}\n{"text": "A second one.", "id": 2}\n' * 40

TABLE = b'id,text\r\n1,"A first\ndocument, ""quoted""."\r\n2,A second one.\r\n' * 20


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["A document.", "Another."] * 40}), file)
    return file.getvalue()


FILES = {
    "a.txt": ("text", TEXT),
    "a.txt.gz": ("text", gzip.compress(TEXT)),
    "a.txt.xz": ("text", lzma.compress(TEXT)),
    "a.txt.zst": ("text", bytes(pyarrow.Codec("zstd").compress(TEXT))),
    "a.jsonl": ("jsonl", JSON),
    "a.jsonl.gz": ("jsonl", gzip.compress(JSON)),
    "a.parquet": ("parquet", parquet_bytes()),
    "a.csv": ("csv", TABLE),
}


def outcome(path, kind, policy="refuse", bad_records="refuse"):
    """The documents of a file, or the message why there are none."""
    try:
        found = read(f"{kind}:{path}", corpus_invalid_utf8=policy, corpus_bad_records=bad_records)
        return [document for document in found if document is not None]
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files_give_documents_or_one_message(name, data, tmp_path):
    kind, content = FILES[name]
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    path = tmp_path / name
    path.write_bytes(damaged)
    policy = data.draw(st.sampled_from(["refuse", "replace"]))
    found = outcome(path, kind, policy, data.draw(st.sampled_from(["refuse", "skip"])))
    if isinstance(found, str):
        assert name in found
        assert "\n" not in found
    else:
        assert all("\n" not in text for document in found for text in document)


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet", "csv", "tsv"])
@given(content=st.binary(min_size=1, max_size=300))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_bytes_give_documents_or_one_message(kind, content, tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(content)
    found = outcome(path, kind)
    assert isinstance(found, list) or "noise" in found
