"""Bad input to fine-tuning: one clear message each."""

import dataclasses

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config.finetuning import parse
from bert_jax.tasks import make_task
from bert_jax.tasks.base import EVALUATE
from tests.tasks.examples import config, records, task

PAIR = {"data.text_pair": "other"}
ADA = {"question": "Who?", "context": "Ada was here.", "answers": [("Ada", 0)]}
TRAINING = {
    "classification": [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}],
    "multi_label": [{"text": "a", "label": "x,y"}],
    "tagging": [{"tokens": ["a", "b"], "tags": ["X", "Y"]}],
    "similarity": [{"text": "a", "other": "b", "label": n} for n in (0, 1)],
    "multiple_choice": [{"text": "a", "choices": ["b", "c"], "label": 1}],
    "question_answering": [ADA],
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init": ""}, r"config\.init is empty"),
        ({"task": "translation"}, "config.task is 'translation': choose one of classification"),
        ({"metric": "f2"}, "config.metric is 'f2': classification has accuracy"),
        ({"epochs": 0.0}, "config.epochs is 0.0"),
        ({"freeze": "("}, "is no regex"),
        ({"class_weights": "some"}, "choose none or balanced"),
        ({"layer_decay": 1.5}, r"a factor in \(0, 1\]"),
        ({"tasks": ({"name": "a b"},)}, "config.tasks: the name 'a b'"),
        ({"tasks": ({"name": "a", "epochs": 3},)}, "a has no field epochs"),
        ({"tasks": ({"name": "a", "max_length": 4},)}, r"config\.tasks, a\.max_length is 4"),
        ({"tasks": ({"name": "a", "stride": "x"},)}, "config.tasks: a: "),
        ({"tasks": ({"name": "a", "crf": True},)}, "config.crf is True: classification has no"),
        ({"task": "similarity"}, "config.data.text_pair is empty"),
        ({"task": "tagging", "stride": 8}, "config.stride is 8: tagging has no such option"),
        ({"task": "tagging", "crf": True, "label_smoothing": 0.1}, "label_smoothing is 0.1: a CRF"),
        ({"stride": 100}, "windows of 128 tokens overlap by at most half"),
        ({"freeze": "encoder", "optimizer.rates": ".*=1"}, "it takes the place of"),
    ],
)
def test_settings_that_cannot_be(fields, message):
    with pytest.raises(UserError, match=message):
        parse(config(**fields))


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("classification", [{"text": "a", "label": "x"}] * 2, "one class only"),
        ("classification", [{"text": "a", "label": ""}], "line 1 has an empty label"),
        ("classification", [{"text": "a"}], "line 1 has no 'label'"),
        ("regression", [{"text": "a", "label": "high"}], "line 1: 'label' is 'high', no number"),
        ("regression", [{"text": "a", "label": 1}] * 2, "nothing to learn"),
        ("multi_label", [{"text": "a", "label": []}], "empty in all examples"),
        ("tagging", [{"tokens": ["a", "b"], "tags": ["X"]}], "2 words and 1 tags"),
        ("tagging", [{"tokens": [], "tags": []}], "line 1: the sentence is empty"),
        ("tagging", [{"tokens": ["a", " "], "tags": ["X", "Y"]}], "one of its words is"),
        ("tagging", [{"tokens": ["a"], "tags": ["X"]}] * 2, "one class only"),
        ("question_answering", [{**ADA, "answers": []}], "no question has an answer"),
        ("multiple_choice", [{"text": "a", "choices": "b"}], "no list of candidates"),
    ],
)
def test_training_data_that_cannot_be_learned(kind, rows, message):
    with pytest.raises(UserError, match=message):
        task(kind).learn(records(*rows))


@pytest.mark.parametrize(
    ("kind", "fields", "change", "message"),
    [
        ("classification", {}, {"label": "z"}, r"the label 'z' is not one of .*\(x, y\)"),
        ("classification", {}, {"text": " "}, "the text in 'text' is empty"),
        ("multi_label", {}, {"label": "x,z"}, "the label 'z' is not one of"),
        ("tagging", {}, {"tags": ["X", "Z"]}, "the tag 'Z' is not one of"),
        ("tagging", {}, {"tags": ["X"]}, "2 words and 1 tags"),
        ("similarity", PAIR, {"other": ""}, "the text in 'other' is empty"),
        ("multiple_choice", {}, {"choices": ["a"] * 3}, "3 candidates, and the first example 2"),
        ("multiple_choice", {}, {"label": 2}, "the label '2' is none of the 2 candidates"),
        ("question_answering", {}, {"question": " "}, "the text in 'question' is empty"),
    ],
)
def test_an_example_that_does_not_fit_the_training_data_is_named(
    kind, fields, change, message, tokenizer
):
    chosen = task(kind, **fields)
    chosen.learn(records(*TRAINING[kind]))
    with pytest.raises(UserError, match=f"line 1: .*{message}|line 1 has {message}"):
        chosen.features(records({**TRAINING[kind][0], **change}), tokenizer, EVALUATE)


def test_the_entity_score_needs_entities():
    tags = task("tagging", metric="entity_f1")
    with pytest.raises(UserError, match="the tags mark no entities"):
        tags.learn(records({"tokens": ["a", "b"], "tags": ["X", "Y"]}))


def test_numbers_sort_as_numbers():
    classes = task("classification")
    classes.learn(records(*({"text": "a", "label": n} for n in (10, 9, 1))))
    assert classes.labels == ["1", "9", "10"]


def test_a_task_keeps_what_it_found():
    first = task("multi_label")
    first.learn(records({"text": "a", "label": ["x", "y"]}))
    first.threshold = 0.25
    again = make_task("multi_label", dataclasses.replace(first.settings))
    again.restore(first.state())
    assert (again.labels, again.threshold) == (["x", "y"], 0.25)
