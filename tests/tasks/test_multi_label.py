"""Any number of labels: the threshold, and labels that are numbers."""

import numpy as np
import pytest

from bert_jax.tasks.multi_label import best_threshold
from tests.tasks.examples import records, task


def f1(shares, gold, threshold):
    given = shares > threshold
    return 2 * (given & gold).sum() / max(given.sum() + gold.sum(), 1)


@pytest.mark.parametrize("share", [0.003, 0.1, 0.5])
def test_the_threshold_is_the_best_of_all(share):
    random = np.random.default_rng(0)
    gold = random.random(500) < share
    gold[0] = True
    shares = np.round(np.where(gold, random.random(500), random.random(500) * 0.7), 2)
    found = best_threshold(shares, gold.astype(np.float32))
    assert f1(shares, gold, found) == max(f1(shares, gold, t) for t in [-1.0, *shares])
    assert found not in shares


def test_labels_may_be_numbers_and_none():
    topics = task("multi_label")
    examples = records(*({"text": "a", "label": value} for value in (0, 1, None, "", [2, 0])))
    topics.learn(examples)
    assert topics.labels == ["0", "1", "2"]
    assert [topics.gold(example) for example in examples] == [["0"], ["1"], [], [], ["2", "0"]]
