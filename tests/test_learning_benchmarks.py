"""The arithmetic of the learning benchmarks: paired differences, times to an accuracy, the law."""

import numpy as np
import pytest

from benchmarks import sizing, speedrun
from benchmarks.ablate import parse_arm, table
from benchmarks.learning import Point


def record(arm, seed, accuracy):
    figures = {"mlm_accuracy": accuracy, "mask_only_accuracy": accuracy, "mlm_loss": 3.0}
    return {
        "arm": arm,
        "seed": seed,
        "held_out": figures,
        "left_plateau": 20,
        "step": 100,
        "cpu_seconds": 50.0,
    }


def test_a_change_counts_beyond_two_standard_errors_of_its_pairs():
    noise = (0.30, 0.35, 0.40)  # seeds differ by more than the arms do
    records = [record("base", seed, accuracy) for seed, accuracy in enumerate(noise)]
    records += [record("better", seed, 0.010 + 0.001 * seed + n) for seed, n in enumerate(noise)]
    records += [record("same", seed, n + (-0.01, 0.0, 0.02)[seed]) for seed, n in enumerate(noise)]
    _, _, _, better, same = table(records, ["base", "better", "same"]).splitlines()
    assert "+0.0110 ± 0.0006 | yes" in better
    assert "| no |" in same


def test_an_arm_is_a_name_and_fields():
    assert parse_arm("x: learning_rate=5e-3, optimizer.name=soap") == (
        "x",
        {"learning_rate": 5e-3, "optimizer.name": "soap"},
    )
    assert parse_arm("base") == ("base", {})


def test_the_time_to_an_accuracy_is_between_two_evaluations(monkeypatch):
    monkeypatch.setattr(speedrun, "seconds_of", lambda point: point.seconds)
    points = [
        Point(step, 0.0, 0.0, seconds, 0.0, 5.0, {"mlm_accuracy": accuracy})
        for step, seconds, accuracy in ((10, 10.0, 0.1), (20, 20.0, 0.3))
    ]
    assert speedrun.time_to(points, 0.2) == pytest.approx(15.0)
    assert speedrun.time_to(points, 0.4) is None


def test_the_law_is_found_in_its_own_losses_and_proposes_the_size_that_fits_the_time():
    law = sizing.Law(floor=1.0, a=20.0, alpha=0.4, b=2.0, beta=0.5)
    trials = []
    for width, depth, seconds in [
        (w, d, s) for w in (64, 128, 256) for d in (2, 4) for s in (30, 120)
    ]:
        parameters, cost = 10 * depth * width**2, 2.0 + depth * width**2 / 4e4
        tokens = seconds / cost
        loss = float(law.loss(parameters, tokens))
        trials.append(
            sizing.Trial(width, depth, 32, 8192, seconds, parameters, tokens, loss, 0.3, cost)
        )
    found = sizing.fit(trials)
    predicted = [found.loss(trial.parameters, trial.tokens) for trial in trials]
    np.testing.assert_allclose(predicted, [trial.loss for trial in trials], rtol=0.01)
    sizes = [
        sizing.best_size(trials, found, seconds)[0][1].parameters for seconds in (60, 3_600, 90_000)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
