"""Spans of answers: in characters there and back, in every window that holds them."""

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import default_config, parse
from bert_jax.tasks.base import EVALUATE
from bert_jax.tasks.data import Record
from bert_jax.tasks.question_answering import answers_of
from bert_jax.tasks.rows import IGNORED

CONTEXT = "The language was named by its author, (Guido van Rossum), in 1989. " * 3


def task(**fields):
    config = default_config()
    config.init, config.task, config.max_length, config.stride = "x", "question_answering", 64, 16
    config.update(fields)
    return parse(config).tasks[0]


def test_the_pieces_of_an_answer_are_its_characters(tokenizer):
    answer = "Guido van Rossum"
    values = {
        "question": "Who named it?",
        "context": CONTEXT,
        "answers": [(answer, CONTEXT.index(answer, 70))],
    }
    questions = task()
    rows = questions.features([Record(values, "here")], tokenizer, EVALUATE)
    spans = rows.of_unit["answer"]
    assert len(rows) > 2
    assert (spans.sum(axis=1) == 0).any(), "a window without the answer is labelled [CLS]"
    for unit, (first, last) in enumerate(spans):
        if last:
            offset = rows.offsets[unit]
            begin = rows.of_token["begin"][offset + first]
            end = rows.of_token["end"][offset + last]
            assert answer in CONTEXT[begin:end]
            assert end - begin <= len(answer) + 2  # a bracket may be in one piece with the name
    assert max(rows.lengths) <= 64


def test_the_best_span_over_all_windows_is_the_answer(tokenizer):
    values = {"question": "When?", "context": CONTEXT, "answers": [("1989", CONTEXT.index("1989"))]}
    questions = task(n_best=4)
    rows = questions.features([Record(values, "here")], tokenizer, EVALUATE)
    units = len(rows)
    outputs = {
        "null": np.zeros(units),
        **{f"{name}_score": np.full((units, 4), -1e9) for name in ("start", "end")},
        **{f"{name}_at": np.zeros((units, 4), np.int64) for name in ("start", "end")},
    }
    unit = int(np.flatnonzero(rows.of_unit["answer"].sum(axis=1))[0])
    first, last = rows.of_unit["answer"][unit]
    for name, at in (("start", first), ("end", last)):
        outputs[f"{name}_score"][unit, 0], outputs[f"{name}_at"][unit, 0] = 5.0, at
    (found,) = questions.predictions(outputs, rows, [Record(values, "here")])
    assert "1989" in found["answer"]
    assert questions.score([{"answer": "1989."}], [Record(values, "")])["exact_match"] == 1.0


def test_question_and_special_tokens_are_no_answers(tokenizer):
    values = {"question": "Who named it?", "context": "Guido.", "answers": []}
    rows = task().features([Record(values, "here")], tokenizer, EVALUATE)
    begins = rows.of_token["begin"]
    inside = begins[begins != IGNORED]
    assert inside.min() >= 0
    assert inside.max() < len("Guido.")
    assert (begins == IGNORED).sum() == rows.second_at[0] + 1  # [CLS] question [SEP], last [SEP]


def test_answers_of_tables_are_those_of_squad_s_json():
    def record(answers):
        return Record({"question": "Who?", "context": "By Ada.", "answers": answers}, "row 3")

    columns = {"text": ["Ada"], "answer_start": [3]}
    assert answers_of(record([("Ada", 3)])) == answers_of(record(columns)) == [("Ada", 3)]
    assert answers_of(record(None)) == []
    with pytest.raises(UserError, match="row 3: the answer 'Ada' is not in its context at char"):
        answers_of(record([("Ada", 4)]))
    with pytest.raises(UserError, match="row 3: 'answers' holds no pairs"):
        answers_of(record(["Ada"]))
