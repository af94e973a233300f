import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import files
from bert_jax.corpus.readers.lines import paragraphs
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
        UserError, match=r"a\.jsonl, line 1: no config\.corpus\.field='text'; there is: body, title"
    ):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut', r"a\.jsonl, line 2: no JSON \(.* starting at character 10\), an object"),
        (b'{"text": 1' + b"0" * 5000 + b"}", "line 2: no JSON \\(Exceeds the limit"),
        (b'{"text": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "line 2: JSON that is nested too"),
        (b'{"meta": {"a": "x", "b": 1}}', "line 2: no .*='text'; there is: meta.a, meta.b"),
        (b"[1]", "line 2: no config.corpus.field='text'; there is: list"),
        (b'{"text": 3}', "line 2: config.corpus.field='text' holds int, not text"),
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
        assert read(path) == [paragraphs(text) for text in texts]


def test_bad_lines_are_skipped_and_counted(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    deep = '{"text": ' + "[" * 20_000 + "]" * 20_000 + "}"
    path.write_text(f'{{"text": "one"}}\nno JSON\n{deep}\n{{"body": ""}}\n{{"text": "two"}}\n')
    with monkeypatch.context() as patch:
        patch.delattr(files.FileRange, "line_number")  # reads the file again: for refusals only
        assert read(path, corpus_bad_records="skip") == [["one"], None, None, None, ["two"]]
    monkeypatch.setattr(files, "range_bytes", lambda total: 40_000)  # the line is in another part
    path.write_text('{"text": "one"}\n' * 5000 + '{"text": "cut\n')
    with pytest.raises(UserError, match=r"a\.jsonl, line 5001: no JSON .*bad_records='skip'"):
        read(path)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match=r"a\.jsonl\.gz, line 5001: no JSON"):
        read(f"{path}.gz")


@pytest.mark.parametrize("policy", ["refuse", "skip"])
@pytest.mark.parametrize(
    "content",
    ['[{"text": "one"}, {"text": "two"}]', '\ufeff [\n{"text": "one"},\n{"text": "two"}]'],
)
def test_a_json_array_is_no_json_lines(tmp_path, content, policy):
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.jsonl is one JSON array, not JSON lines: .*jq"):
        read(tmp_path / "a.jsonl", corpus_bad_records=policy)


def test_a_first_line_that_is_an_array_is_a_bad_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('[1]\n{"text": "one"}\n')
    assert read(tmp_path / "a.jsonl", corpus_bad_records="skip") == [None, ["one"]]


@pytest.mark.parametrize(
    ("entry", "field", "text"),
    [
        ({"meta": {"text": "one\rtwo"}}, "meta.text", ["one", "two"]),
        ({"meta.text": "flat", "meta": {"text": "deep"}}, "meta.text", ["flat"]),
        ({"a": {"b": {"c": ["one", None, "two\nthree"]}}}, "a.b.c", ["one", "two", "three"]),
        ({"text": [["one"], ["two"]]}, "text", ["one", "two"]),
        ({"turns": [{"text": "one"}, {"text": "two"}, None]}, "turns.text", ["one", "two"]),
        ({"meta": None}, "meta.text", []),
        ({"text": []}, "text", []),
        ({"text": ["one", 2]}, "text", None),
        ({"meta": "text"}, "meta.text", None),
    ],
)
def test_text_may_be_nested_or_a_list(tmp_path, entry, field, text):
    (tmp_path / "a.jsonl").write_text(json.dumps(entry))
    assert read(tmp_path / "a.jsonl", corpus_field=field, corpus_bad_records="skip") == [text]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_lines_end_in_any_way_but_not_inside_of_text(tmp_path, end, block, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", block)
    monkeypatch.setattr(files, "range_bytes", lambda total: 20)
    lines = [f'{{"text": "{text}"}}' for text in ("a\u2028b", "c\x85d", "e")]
    (tmp_path / "a.jsonl").write_bytes((end.join(lines) + end + "no JSON" + end).encode())
    found = read(tmp_path / "a.jsonl", corpus_bad_records="skip")
    assert found == [["a", "b"], ["c", "d"], ["e"], None]
    with pytest.raises(UserError, match=r"a\.jsonl, line 4:"):
        read(tmp_path / "a.jsonl")
