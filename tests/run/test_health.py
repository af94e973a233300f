"""Runs that do not learn are called out once, with likely causes."""

import numpy as np
import pytest

from bert_jax.run import health, metrics
from bert_jax.run.health import Facts, Health, entropy
from bert_jax.stream.batches import TrainBatches
from tests.runs import tiny, train

FACTS = Facts(warmup_steps=100, entropy=6.0)
WELL = {
    "split": "train",
    "mlm_loss": 3.0,
    "nsp_accuracy": 0.9,
    "grad_norm": 1.0,
    "data_wait_fraction": 0.01,
}


def found(values, evaluation=None, first=5000, every=20):
    """The names that are found in records with these values, and how often each."""
    watch = Health(FACTS)
    names = []
    for index, value in enumerate(values):
        record = WELL | {"step": first + every * index, "input": str(index)} | value
        names += [finding.name for finding in watch.add(record)]
    if evaluation:
        names += [f.name for f in watch.add({"split": "heldout", "step": 9999} | evaluation)]
    return names


def noise(center, width, count=30):
    return [center + width * x for x in np.random.default_rng(0).normal(size=count)]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([{"mlm_loss": x} for x in noise(5.98, 0.03)], "unigram_plateau"),
        ([{"nsp_accuracy": x} for x in noise(0.5, 0.02)], "pairs_at_chance"),
        ([{"input": "same"}] * 30, "same_batch"),
        ([{"grad_norm": 1.0}] * 25 + [{"grad_norm": 30.0}] * 5, "exploding_gradient"),
        ([{"data_wait_fraction": 0.4}] * 30, "slow_input"),
    ],
)
def test_each_sign_is_found_once(values, name):
    assert found(values) == [name]


def test_a_healthy_run_is_left_alone():
    falling = [{"mlm_loss": 6.0 - 0.05 * i, "grad_norm": 1.0 + 0.2 * i} for i in range(30)]
    assert found(falling, {"mlm_loss": 4.8}) == []
    assert found([{"mlm_loss": x} for x in noise(5.98, 0.03)], first=0, every=1) == []  # too early
    assert found([{"nsp_accuracy": 0.5}] * 30, first=0, every=1) == []


def test_held_out_text_that_is_much_worse_is_found():
    assert found([{"mlm_loss": 2.0}] * 30, {"mlm_loss": 3.0}) == ["heldout_far_above"]


def test_a_resumed_run_does_not_repeat_what_was_said_and_knows_the_records_before():
    records = [WELL | {"step": 5000 + i, "mlm_loss": 5.98} for i in range(19)]
    watch = Health(FACTS, records)
    (finding,) = watch.add(WELL | {"step": 5019, "mlm_loss": 5.98})
    assert "stands at 5.98, the entropy of the corpus' token frequencies (6.00)" in finding.text
    warning = {"step": 5019, "event": "warning", "name": finding.name}
    again = Health(FACTS, [*records, warning])
    assert again.add(WELL | {"step": 5019, "mlm_loss": 5.98}) == []


def test_the_entropy_is_that_of_the_frequencies():
    assert entropy(np.array([5, 5, 0])) == pytest.approx(np.log(2))


@pytest.mark.slow
def test_a_run_that_gets_the_same_batch_all_the_time_says_so(corpus, tmp_path, monkeypatch):
    build = TrainBatches.batch

    def first_batch(self, step, *rows_of):
        return build(self, self.settings.phase_at(step).start, *rows_of)

    monkeypatch.setattr(TrainBatches, "batch", first_batch)
    monkeypatch.setattr(health, "NSP_STEPS", 8)
    monkeypatch.setattr(health, "WINDOW", 8)
    said = train(tiny(corpus, learning_rate=0.0), tmp_path).said
    assert "Warning: the steps 1, 2 and 3 had the same batch" in said
    warnings = {
        event["name"]: event["step"]
        for event in metrics.read_events(tmp_path)
        if event["event"] == "warning"
    }
    assert warnings["same_batch"] == 3
    assert warnings["pairs_at_chance"] == 12  # three times the warm-up
    assert "predicted at chance" in said
