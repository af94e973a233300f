"""Tables as text: csv: and tsv:."""

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_jax.common.errors import UserError
from bert_jax.corpus.readers import files
from bert_jax.corpus.readers.lines import paragraphs
from tests.corpus import corpora

TEXT_CELLS = st.text(st.sampled_from('ab é漢,;\t|"\n\r\x85\u2028'), max_size=8)


def read(path, kind="csv", **fields):
    return corpora.read(f"{kind}:{path}", **fields)


@given(
    cells=st.lists(TEXT_CELLS, min_size=1, max_size=8),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from(",;\t|"),
    block=st.integers(1, 30),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
)
@settings(max_examples=100, deadline=None)
def test_what_a_spreadsheet_writes_is_read(tmp_path_factory, cells, end, delimiter, block, mark):
    file = io.StringIO()
    rows = csv.writer(file, quoting=csv.QUOTE_ALL, delimiter=delimiter, lineterminator=end)
    rows.writerows([["id", " text "], *([index, cell] for index, cell in enumerate(cells))])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(file.getvalue().encode(mark))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        assert read(path) == [paragraphs(cell) for cell in cells]


def test_tables_may_be_compressed_and_cells_empty(tmp_path):
    content = b'title,text\n\n"T","one\ntwo\n\nthree"\nU,\n'
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content))
    assert read(tmp_path) == [["one", "two", "", "three"], []]
    assert read(tmp_path, corpus_field="title") == [["T"], ["U"]]


def test_tsv_has_no_quotes_unless_they_are_wanted(tmp_path, monkeypatch):
    path = tmp_path / "a.tsv"
    path.write_text('index\ttext\n0\t"one, he said\n1\t"two"\n')
    assert read(path, "tsv") == [['"one, he said'], ['"two"']]
    monkeypatch.setattr(files, "range_bytes", lambda total: 12)  # a part a row or two
    assert read(path, "tsv") == [['"one, he said'], ['"two"']]
    path.write_text('index\ttext\n0\t"one\ttab\nline"\n1\ttwo\n')
    assert read(path, "tsv", corpus_quoting="on") == [["one\ttab", "line"], ["two"]]
    with pytest.raises(UserError, match=r"a\.tsv, line 2: 3 cells, and the first .*quoting='on'"):
        read(path, "tsv")


@pytest.mark.parametrize(
    ("row", "line", "reason"),
    [
        ("1,two,three", 4, "3 cells, and the first row has 2"),
        ("1", 4, "1 cells"),
        ('1,"two" or three', 4, "a row that cannot be read"),
        ('1,"two', 4, r"a row that cannot be read \(',' expected after"),
    ],
)
def test_bad_rows_are_refused_or_skipped(tmp_path, row, line, reason):
    path = tmp_path / "a.csv"
    path.write_text(f'id,text\n0,"one\nand more"\n{row}\n2,last\n3,"the\nend"\n')
    skipped = read(path, corpus_bad_records="skip")
    assert skipped == [["one", "and more"], None, ["last"], ["the", "end"]]
    with pytest.raises(UserError, match=rf"a\.csv, line {line}: {reason}") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_quote_that_is_never_closed_spoils_one_line(tmp_path):
    (tmp_path / "a.csv").write_text('text,id\none,1\n"two,2\nthree,3\nfour,4\n')
    assert read(tmp_path, corpus_bad_records="skip") == [["one"], None, ["three"], ["four"]]
    with pytest.raises(UserError, match=r"line 3: .*\(unexpected end of data\); .*quoting='off'"):
        read(tmp_path)


def test_the_line_is_that_of_the_file_in_later_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "range_bytes", lambda total: 100)
    (tmp_path / "a.tsv").write_text("id\ttext\n" + "1\tone\n" * 90 + "1\n")
    with pytest.raises(UserError, match=r"a\.tsv, line 92: 1 cells"):
        read(tmp_path, "tsv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id,body\n1,one\n",
            r"a\.csv has no column .*='text' in its first row; there is: id, body$",
        ),
        ("text,text\n1,one\n", "has 2 columns .*='text'; give them different names"),
        ('id,"text\n1,one\n', "the first row, which names the columns, cannot be read"),
        ("id,text\n1,one \udcff\n", "not UTF-8 text: byte 0xff at offset 14"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.csv")
