"""Entities by conlleval's rules, in every scheme."""

from pathlib import Path

import numpy as np
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


def example_of_conlleval():
    """Right and predicted tags of the example that was published with conlleval.

    https://www.cnts.ua.ac.be/conll2000/chunking/output.html (output.txt.gz, without the words).
    """
    text = (Path(__file__).parent / "conlleval_output.txt").read_text()
    sentences = [part.splitlines() for part in text.strip().split("\n\n")]
    pairs = [[line.split() for line in lines if line] for lines in sentences]
    return tuple([[pair[side] for pair in sentence] for sentence in pairs] for side in (0, 1))


PUBLISHED = {  # precision, recall, F1 in percent, as conlleval printed them
    "micro": (68.83, 80.83, 74.35),
    "ADJP": (0.0, 0.0, 0.0),
    "ADVP": (45.45, 62.50, 52.63),
    "NP": (64.98, 78.63, 71.16),
    "PP": (83.18, 98.89, 90.36),
    "SBAR": (66.67, 33.33, 44.44),
    "VP": (69.00, 79.31, 73.80),
}


def test_conlleval_s_published_example_has_its_published_figures():
    gold, predicted = example_of_conlleval()
    assert sum(map(len, gold)) == 961
    scores = entity_scores(gold, predicted)
    assert scores["micro"].support == 459
    rounded = {name: tuple(round(100 * x, 2) for x in each[:3]) for name, each in scores.items()}
    assert rounded == PUBLISHED


def test_seqeval_agrees_on_tags_that_break_their_scheme():
    seqeval = pytest.importorskip("seqeval.metrics")
    random = np.random.default_rng(0)
    tags = ["O", *(f"{prefix}-{type}" for prefix in "BIES" for type in ("PER", "LOC"))]
    gold = [random.choice(tags, length).tolist() for length in random.integers(1, 12, 300)]
    predicted = [
        [str(random.choice(tags)) if random.random() < 0.3 else tag for tag in row] for row in gold
    ]
    found = entity_scores(gold, predicted)
    types = {name: each.f1 for name, each in found.items() if name != "micro"}
    assert found["micro"].f1 == pytest.approx(seqeval.f1_score(gold, predicted))
    assert list(types.values()) == pytest.approx(seqeval.f1_score(gold, predicted, average=None))
