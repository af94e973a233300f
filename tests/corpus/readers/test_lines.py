"""Ends of lines, in text that comes in blocks and in files that are cut into ranges."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.corpus.readers import files
from bert_jax.corpus.readers.lines import (
    BLANK_LINE,
    lines_of_bytes,
    paragraphs,
    split_lines,
    with_line_feeds,
)
from tests.corpus.corpora import read

ENDS = ("\n", "\r\n", "\r", "\x85", "\u2028", "\u2029")
_ANY_END = re.compile("\r+\n|[\n\r\x85\u2028\u2029]")
TEXTS = st.text(st.sampled_from("ab \t漢\n\r\x85\u2028\u2029"), max_size=25)


@given(text=TEXTS, block=st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_every_end_of_a_line_becomes_a_line_feed_wherever_blocks_end(text, block):
    blocks = (text[start : start + block] for start in range(0, len(text), block))
    lines = _ANY_END.split(text)
    assert "".join(with_line_feeds(blocks)) == "\n".join(lines)
    assert paragraphs(text) == (lines if text else [])
    assert "".join(split_lines(iter([text]))) == text


@given(text=TEXTS, block=st.integers(1, 5), start=st.sampled_from([0, 7]))
@settings(max_examples=200, deadline=None)
def test_lines_of_bytes_know_where_they_begin(text, block, start):
    content = text.encode()
    blocks = (content[at : at + block] for at in range(0, len(content), block))
    found = list(lines_of_bytes(blocks, start))
    assert [line.strip() for _, line in found if line.strip()] == [
        line.strip() for line in re.split(rb"[\r\n]", content) if line.strip()
    ]
    for offset, line in found:
        assert content[offset - start :].startswith(line.rstrip())


@given(
    text=st.text(st.sampled_from("aé漢\n\n\r\r\x85\u2028 \t"), max_size=60),
    target=st.integers(1, 60),
    block=st.integers(1, 9),
    documents=st.sampled_from(["blank_line", "line"]),
)
@settings(max_examples=200, deadline=None)
def test_parts_hold_what_the_whole_file_holds(tmp_path_factory, text, target, block, documents):
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes(f"x{text}".encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        patch.setattr(files, "range_bytes", lambda total: target)
        parts = read(f"text:{path}", corpus_documents=documents)
    lines = [line if line.strip() else "" for line in _ANY_END.split(f"x{text}")]
    if documents == "line":
        expected = [[line] for line in lines if line]
    else:
        groups = itertools.groupby(lines, bool)
        expected = [list(group) for filled, group in groups if filled]
    assert parts == expected


@pytest.mark.parametrize("end", ENDS)
def test_files_of_any_line_ends_hold_the_same_documents(tmp_path, end):
    for name in ("a.txt", "b.txt"):
        lines = ("one", "two", "", f"three {name}", "")
        (tmp_path / name).write_bytes(end.join(lines).encode())
    assert read(f"text:{tmp_path}") == [
        ["one", "two"],
        ["three a.txt"],
        ["one", "two"],
        ["three b.txt"],
    ]


def test_a_large_file_of_carriage_returns_is_cut_into_parts(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"one\r\rtwo\r\rthree\r\r" * 20)
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "one"}\r{"text": "two"}\r' * 20)
    monkeypatch.setattr(files, "range_bytes", lambda total: 30)
    assert len(files.file_ranges(f"{tmp_path}/a.txt", BLANK_LINE)) > 5
    assert read(f"text:{tmp_path}/a.txt") == [["one"], ["two"], ["three"]] * 20
    assert read(f"jsonl:{tmp_path}/b.jsonl") == [["one"], ["two"]] * 20
