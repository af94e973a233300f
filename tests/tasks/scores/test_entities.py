"""Entities by conlleval's rules, in every scheme."""

import pytest

from bert_jax.tasks.scores.entities import entity_scores, has_entities, spans, to_iob2

IOB2 = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-LOC"]


@pytest.mark.parametrize(
    "tags",
    [
        IOB2,
        ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-LOC"],  # IOB1
        ["B-PER", "E-PER", "O", "S-LOC", "B-LOC", "E-LOC"],  # IOBES
        ["B-PER", "L-PER", "O", "U-LOC", "B-LOC", "L-LOC"],  # BILOU
    ],
)
def test_every_scheme_marks_the_same_entities(tags):
    assert spans(tags) == [(0, 2, "PER"), (3, 4, "LOC"), (4, 6, "LOC")]
    assert to_iob2(tags) == IOB2


def test_another_type_begins_another_entity():
    assert spans(["B-PER", "I-LOC", "I-LOC"]) == [(0, 1, "PER"), (1, 3, "LOC")]


def test_the_example_of_seqeval_s_readme():
    """https://github.com/chakki-works/seqeval: F1 0.50, MISC 0, PER 1; it follows conlleval."""
    gold = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predicted = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    scores = entity_scores(gold, predicted)
    assert scores["micro"] == (0.5, 0.5, 0.5, 2)
    assert scores["MISC"].f1 == 0.0
    assert scores["PER"].f1 == 1.0


def test_no_entities_at_all_score_zero():
    assert entity_scores([["O"]], [["O"]])["micro"] == (0.0, 0.0, 0.0, 0)


def test_parts_of_speech_are_no_entities():
    assert has_entities({"O", "B-PER"})
    assert not has_entities({"O", "B-PER", "NOUN"})
    assert not has_entities({"NOUN", "X"})
