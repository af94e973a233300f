"""A run that is given in time: measured once, recorded, and resumed to the same bytes."""

import json
import shutil

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import named
from bert_jax.run import budget
from bert_jax.run.budget import Evaluation, steps_that_fit
from tests.runs import assert_same_bytes, records, tiny, train, whole_state


@pytest.fixture(scope="module")
def timed(corpus, finished):
    """A config that is given in time."""

    def config(time="6s"):
        return tiny(
            corpus,
            **{"corpus.directory": f"{finished.workdir}/corpus", "budget": time},
            total_steps=0,
            warmup_steps=0.2,
            eval_every=0.5,
            checkpoint_every=0.25,
            eval_batches=1,
            log_every=5,
        )

    return config


@pytest.mark.slow
def test_a_budget_becomes_steps_once_and_a_resumed_run_is_the_same(timed, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "LEAST_SECONDS", 0.05)
    said = train(timed(), tmp_path / "run").said
    assert "Measuring the step" in said
    total = json.loads((tmp_path / "run" / "config.json").read_text())["total_steps"]
    assert total >= budget.FEWEST
    assert f"Starting a run of {total} steps" in said

    shutil.copytree(tmp_path / "run", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / str(total))
    again = train(timed(), tmp_path / "again").said
    assert "Measuring" not in again
    assert f"of {total} in" in again
    assert "Training took" in said
    assert "Training took" not in again  # this process did not make all of it
    one, other = (whole_state(tmp_path / name, total) for name in ("run", "again"))
    assert_same_bytes(one, other)
    assert records(tmp_path / "run") == records(tmp_path / "again")

    with pytest.raises(UserError, match='budget was "6s" and is now "9s"'):
        train(timed("9s"), tmp_path / "run")


def test_evaluations_are_paid_from_the_budget_however_many_there_will_be():
    cost = Evaluation(seconds=5.0, compiling=3.0)
    assert steps_that_fit(128.0, 0.1, cost, eval_every=0.2) == 1000  # 5 evaluations
    assert steps_that_fit(128.0, 0.1, cost, eval_every=0.3) == 1050  # 4: the last one is extra
    for eval_every in (50, 400, 7000):
        total = steps_that_fit(1e4, 0.1, cost, eval_every)
        assert 9990.0 <= 3.0 + 0.1 * total + 5.0 * -(-total // eval_every) <= 1e4
    assert steps_that_fit(6.0, 0.1, cost, eval_every=500) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget": "5"}, "budget is '5': give a time as in 40s, 5m or 1.5h"),
        ({"budget": ""}, "total_steps is 0 and config.budget is ''"),
    ],
)
def test_a_budget_that_says_nothing_is_refused(timed, tmp_path, fields, message):
    config = timed()
    config.update(fields)
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run")


def test_a_budget_that_the_steps_of_the_config_file_outdo_is_refused():
    preset = named("configs/bert.py:tiny")
    with pytest.raises(UserError, match=r"budget=60s is without effect, .* is 1000000: add"):
        budget.expect_used(named("configs/bert.py:tiny", budget="60s"), preset)
    for fields in ({"total_steps": 0}, {"total_steps": 500}):  # the second one says what it means
        budget.expect_used(named("configs/bert.py:tiny", budget="60s", **fields), preset)
