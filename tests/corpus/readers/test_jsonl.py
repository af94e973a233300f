import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import files
from tests.corpus import corpora


def read(path, **fields):
    return corpora.read(f"jsonl:{path}", **fields)


def test_an_object_a_line_is_a_document(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "one\\ntwo", "id": 1}\n\n{"text": "漢字"}\n{"text": null}\n{"text": ""}'
    )
    assert read(path) == [["one", "two"], ["漢字"], [], []]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read(tmp_path / "b.jsonl.gz") == [["one", "two"], ["漢字"], [], []]


def test_the_field_is_a_setting(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "one", "title": "t"}\n')
    assert read(tmp_path / "a.jsonl", corpus_field="body") == [["one"]]
    with pytest.raises(
        UserError, match=r"offset 0 has no config.corpus.field='text'; .* body, title"
    ):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut', "offset 17: no JSON"),
        (b"[1]", "offset 17 has no config.corpus.field='text'; there is: list"),
        (b'{"text": 3}', "offset 17: config.corpus.field='text' holds int, not text"),
        (b'{"text": "\xff"}', r"not UTF-8 text: byte 0xff at offset 27"),
    ],
)
def test_bad_lines_are_named_with_their_offset(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + line + b"\n")
    with pytest.raises(UserError, match=message):
        read(path)


@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=20), block=st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_parts_hold_every_object_once(tmp_path_factory, texts, block):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        patch.setattr(files, "range_bytes", lambda total: 25)
        assert read(path) == [text.split("\n") if text else [] for text in texts]
