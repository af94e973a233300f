"""Labelled data: formats, splits, and one clear message for what cannot be read."""

import dataclasses
import json

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config
from bert_jax.tasks.data import DataSettings, read, splits, stream

SETTINGS = DataSettings(**default_config().data.to_dict())
CONLLU = """# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\t_
5\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\t_
5.1\tvacío\t_\t_\t_\t_\t_\t_\t_\t_
"""
QUESTION = {"id": "q1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}
PARAGRAPH = {"context": "Ada was here.", "qas": [QUESTION, QUESTION]}
TWICE = json.dumps({"data": [{"paragraphs": [PARAGRAPH]}]})


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def values(path, **fields):
    return [r.values for r in read(path, dataclasses.replace(SETTINGS, **fields), "train")]


def test_a_tsv_is_taken_as_it_is(tmp_path):
    path = write(tmp_path, "a.tsv", 'text\tlabel\na "quoted\t1\n')
    assert values(path) == [{"text": 'a "quoted', "label": "1"}]


def test_columns_by_number_mean_no_header(tmp_path):
    path = write(tmp_path, "cola.tsv", "gj04\t1\t\tIt is.\n")
    assert values(path, text="3", label="1")[0]["3"] == "It is."


def test_a_csv_has_quoted_cells(tmp_path):
    long = "long " * 50_000
    path = write(tmp_path, "a.csv", f'text,label\n"one, two\nthree",1\n{long},2\n')
    first, second = values(path)
    assert first == {"text": "one, two\nthree", "label": "1"}
    assert second == {"text": long, "label": "2"}


def test_multiword_ranges_and_empty_nodes_have_no_tags(tmp_path):
    (sentence,) = values(write(tmp_path, "a.conllu", CONLLU))
    assert sentence["tokens"] == ["Vamos", "nos", "a", "el", "mar"]
    assert sentence["tags"] == ["VERB", "PRON", "ADP", "DET", "NOUN"]


def test_conll_sentences_end_at_blank_lines_even_with_a_tab(tmp_path):
    text = "-DOCSTART- O\n\nEU B-ORG\nrejects O\n\t\nPeter\tB-PER\n"
    found = values(write(tmp_path, "a.conll", text))
    assert [sentence["tags"] for sentence in found] == [["B-ORG", "O"], ["B-PER"]]


def test_squad_answers_that_are_not_in_their_context_are_named(tmp_path, capsys):
    question = {"id": "q1", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 0}]}
    right = {"id": "q2", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}
    data = {"data": [{"paragraphs": [{"context": "Ada was here.", "qas": [question, right]}]}]}
    found = values(write(tmp_path, "a.json", json.dumps(data)))
    assert [record["id"] for record in found] == ["q2"]
    assert "1 questions have answers that are not in their context" in capsys.readouterr().out


def test_predictions_need_no_labels(tmp_path):
    questions = [
        {"id": "q1", "question": "Who?"},
        {"id": "q2", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 0}]},
    ]
    data = {"data": [{"paragraphs": [{"context": "Ada was here.", "qas": questions}]}]}
    squad = write(tmp_path, "a.json", json.dumps(data))
    with pytest.raises(UserError, match="no SQuAD json: 'answers' is missing"):
        values(squad)
    found = stream(squad, SETTINGS, "input")
    assert [(r.values["id"], r.values["answers"]) for r in found] == [("q1", []), ("q2", [])]
    words = write(tmp_path, "a.conll", "EU\nrejects\n\nPeter\n")
    with pytest.raises(UserError, match="line 1 has 1 columns"):
        values(words)
    found = stream(words, dataclasses.replace(SETTINGS, tokens="1"), "input")
    assert [record.values["tokens"] for record in found] == [["EU", "rejects"], ["Peter"]]


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = write(tmp_path, "a.conll", "EU NNP B-NP B-ORG\n")
    with pytest.raises(UserError, match=r"line 1: config\.data\.tags=9, and there are 4 columns"):
        values(path, tags="9")


def test_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    assert values(str(tmp_path / "a.parquet")) == [{"text": "a", "label": 1}]


def test_a_split_by_hash_does_not_depend_on_the_order(tmp_path):
    lines = [f"text {i}\t{i % 2}" for i in range(200)]
    held = []
    for order in (lines, lines[::-1]):
        path = write(tmp_path, "a.tsv", "\n".join(["text\tlabel", *order]) + "\n")
        found = splits(dataclasses.replace(SETTINGS, train=path))
        assert len(found["train"]) + len(found["validation"]) == 200
        held.append({record.values["text"] for record in found["validation"]})
    assert held[0] == held[1]
    assert 5 < len(held[0]) < 40


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "text\tlabel\na\tb\tc\n", "line 2 has 3 cells, and the first line has 2"),
        ("a.csv", 'text,label\n"a,b\n', "line 2: a row that cannot be read .*never closed"),
        ("a.csv", 'text,label\n"a",b,c\n', "line 2 has 3 cells, and the first line has 2"),
        ("a.tsv", "text\tlabel\n", "holds no example"),
        ("a.conll", "\n\t\n", "holds no example"),
        ("a.jsonl", "{\n", "line 1 is no JSON"),
        ("a.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("a.jsonl", '{"id": 1}\n{"id": 1}\n', "the id 1 is there twice"),
        ("a.json", TWICE, "the id 'q1' is there twice"),
        ("a.conll", "EU\tB-ORG\nrejects\n", "line 2 has 1 columns"),
        ("a.conllu", "1\tEU\n", "line 1 has 2 columns, and CoNLL-U has 10"),
        ("a.json", "[]", "is no SQuAD json"),
        ("a.parquet", "no", "is no parquet file"),
        ("a.unknown", "", "set config.data.format"),
    ],
)
def test_what_cannot_be_read_says_where(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        values(write(tmp_path, name, text))


def test_text_that_is_not_utf8_is_refused_with_the_command_that_converts_it(tmp_path):
    (tmp_path / "a.tsv").write_bytes("text\tlabel\nGrüße\t1\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.tsv is not UTF-8 text: .*iconv -f ENCODING -t UTF-8"):
        values(str(tmp_path / "a.tsv"))
