"""Learning-rate schedules by their values."""

import math

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.training.schedules import make_schedule


def share(total_steps=110, warmup_steps=10, **fields):
    config = default_config()
    config.total_steps, config.warmup_steps = total_steps, warmup_steps
    config.optimizer.update(fields)
    return make_schedule(parse(config).training.optimizer)


@pytest.mark.parametrize(
    ("fields", "expected"),  # at steps 0, 5, 10, 60, 110
    [
        ({"schedule": "linear", "final_lr_fraction": 0.1}, [0, 0.5, 1, 0.55, 0.1]),
        ({"schedule": "polynomial", "decay_power": 2.0}, [0, 0.5, 1, 0.25, 0]),
        ({"schedule": "cosine", "final_lr_fraction": 0.2}, [0, 0.5, 1, 0.6, 0.2]),
        (
            {"schedule": "inverse_sqrt"},
            [0, 0.5, 1, math.sqrt(10 / 60), math.sqrt(10 / 110)],
        ),
        ({"schedule": "wsd", "decay_steps": 40}, [0, 0.5, 1, 1, 0]),
        ({"schedule": "wsd", "decay_steps": 0.5}, [0, 0.5, 1, 1 - 5 / 55, 0]),
        (
            {"schedule": "wsd", "decay_steps": 100, "decay_shape": "sqrt"},
            [0, 0.5, 1, 1 - math.sqrt(0.5), 0],
        ),
    ],
)
def test_the_share_of_the_peak(fields, expected):
    found = [float(share(**fields)(step)) for step in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_transformer_paper_gives_the_peak():
    """Equation 3 of https://arxiv.org/abs/1706.03762 at every step."""
    schedule = share(schedule="transformer")  # hidden_size is 128
    for step in (1, 4, 10, 11, 110):
        expected = 128**-0.5 * min(step**-0.5, step * 10**-1.5)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-6)


def test_a_restart_warms_up_again_to_its_own_peak():
    restarts = ({"at": 0.8, "warmup_steps": 5, "peak": 0.5},)
    schedule = share(100, 10, schedule="linear", restarts=restarts)
    found = [float(schedule(step)) for step in (10, 45, 79, 80, 81, 85, 100)]
    np.testing.assert_allclose(found, [1, 0.5, 1 / 70, 0, 0.1, 0.5, 0], atol=1e-6)


def test_a_stable_rate_decays_at_the_end_of_the_run_alone():
    restarts = ({"at": 0.5, "peak": 0.25},)
    schedule = share(100, 10, schedule="wsd", decay_steps=20, restarts=restarts)
    found = [float(schedule(step)) for step in (10, 49, 50, 80, 90, 100)]
    np.testing.assert_allclose(found, [1, 1, 0.25, 0.25, 0.125, 0], atol=1e-6)


def test_a_stable_rate_is_exact_so_that_a_branch_is_the_same_run():
    schedule = share(schedule="wsd", decay_steps=40)
    assert all(float(schedule(step)) == 1.0 for step in range(10, 71))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "constant"}, "schedule is 'constant': choose linear or"),
        ({"schedule": "wsd", "decay_steps": 101}, "decay_steps is 101 steps, with 100 steps"),
        ({"decay_shape": "round"}, "decay_shape is 'round'"),
        ({"restarts": ({"at": 1.5},)}, "let their shares `at` ascend"),
        ({"restarts": ({"step": 1},)}, r"restarts\[0\]"),
        ({"restarts": ({"at": 0.5, "warmup_steps": 60},)}, "part that begins at step 55"),
        ({"decay_steps": 1.5}, "decay_steps is 1.5"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        share(**fields)


def test_lengths_are_steps_or_shares_of_the_run():
    config = default_config()
    config.total_steps, config.warmup_steps, config.eval_every = 200, 0.1, 0.25
    settings = parse(config)
    assert settings.training.optimizer.sections[0].warmup_steps == 20
    assert settings.eval_every == 50
    config.checkpoint_every = 2.5
    with pytest.raises(UserError, match=r"config\.checkpoint_every is 2\.5"):
        parse(config)
