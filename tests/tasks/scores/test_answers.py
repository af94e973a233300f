"""SQuAD's scores: its normalization, and no answer."""

import pytest

from bert_jax.tasks.scores.answers import exact_match, f1


@pytest.mark.parametrize(
    ("predicted", "answers", "em", "overlap"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1.0, 1.0),
        ("in 1889", ["1889", "the year 1889"], 0.0, 2 / 3),
        ("Paris", ["London"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("Paris", [], 0.0, 0.0),
        ("", ["Paris"], 0.0, 0.0),
    ],
)
def test_scores(predicted, answers, em, overlap):
    assert exact_match(predicted, answers) == em
    assert f1(predicted, answers) == pytest.approx(overlap)
