"""What a run says of itself while it trains."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.model import Totals
from bert_jax.run import metrics
from bert_jax.run.progress import Reporter
from bert_jax.training import sharding
from bert_jax.training.step import SKIPPED, StepFigures


@pytest.fixture
def reporter(tmp_path):
    return begin(tmp_path, 0)


def begin(directory, first_step, memory=""):
    config = default_config()
    config.total_steps, config.warmup_steps, config.log_every = 40, 1, 4
    config.max_skipped_updates = 6
    settings = parse(config)
    mesh = sharding.make_mesh(settings.training.mesh)
    reporter = Reporter(
        settings, directory, mesh, settings.model_config(100), first_step, memory=memory
    )
    phase = settings.stream.phases[0]
    reporter.begin_phase(phase, first_step)
    return reporter, phase


def figures(is_skipped: bool) -> StepFigures:
    loss = jnp.array(np.nan if is_skipped else 2.0)
    scalars = {"grad_norm": loss, SKIPPED: jnp.array(float(is_skipped))}
    return StepFigures({"mlm": Totals(loss, {}, jnp.array(1.0))}, scalars)


def test_updates_that_were_left_out_are_counted_and_named(reporter, tmp_path, capsys):
    reporter, phase = reporter
    for step in range(1, 13):
        reporter.train(step, phase, figures(step in (2, 3, 6, 11)))
    reporter.close()
    counts = {record["step"]: record[SKIPPED] for record in metrics.read(tmp_path)}
    assert counts == {4: 2.0, 8: 1.0, 12: 1.0}
    assert "of step 2, 3 was not finite; 2 of 4 updates were left out" in capsys.readouterr().out


def test_one_that_was_left_out_before_a_save_is_counted_after_a_resume(reporter, tmp_path):
    reporter, phase = reporter
    for step in range(1, 7):
        reporter.train(step, phase, figures(step == 5))
    with reporter.pause(figures(False), "saving"):
        memory = reporter.memory()
    reporter.close()
    again, _ = begin(tmp_path, 6, memory)
    for step in (7, 8):
        again.train(step, phase, figures(False))
    again.close()
    counts = {record["step"]: record[SKIPPED] for record in metrics.read(tmp_path)}
    assert counts == {4: 0.0, 8: 1.0}


def test_many_left_out_in_a_row_stop_the_run(reporter):
    reporter, phase = reporter
    for step in range(1, 9):
        reporter.train(step, phase, figures(step > 2))
    with pytest.raises(UserError, match=r"of the last 6 steps up to 8 was not finite .*lower conf"):
        reporter.close()


def test_the_record_before_a_phase_border_is_written_before_the_next_step_is_compiled(
    reporter, tmp_path
):
    reporter, phase = reporter
    for step in range(1, 5):
        reporter.train(step, phase, figures(False))
    assert metrics.read(tmp_path) == []  # the record of step 4 waits for the next step
    later = dataclasses.replace(phase, index=1, start=4, stop=40)
    reporter.begin_phase(later, 0)
    assert [record["step"] for record in metrics.read(tmp_path)] == [4]
    (event,) = [e for e in metrics.read_events(tmp_path) if e.get("index") == 1]
    assert event["event"] == "phase"
    assert event["step"] == 5  # the first update of the phase
    reporter.close()
