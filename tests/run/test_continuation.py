"""Changes of the config of a run that continues: the future may change, the past may not."""

import json
import shutil

import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import changed, default_config, parse
from bert_jax.run.continuation import as_begun, expect_same_past, go_back
from bert_jax.run.saved_config import Change, changes, is_same_run, to_json
from bert_jax.run.workdir import CHECKPOINTS, CONFIG, read_config
from tests.runs import metrics, records, tiny, train


def settings(**fields):
    config = default_config()
    config.total_steps, config.warmup_steps = 1000, 100
    for name, value in fields.items():
        group, _, field = name.rpartition("__")
        (config[group] if group else config)[field] = value
    return parse(config)


RESTART = ({"at": 0.5, "warmup_steps": 100},)
PHASES = ({"until": 0.9, "sequence_length": 64}, {"until": 1.0})


def test_a_longer_run_must_say_how_its_learning_rate_goes_on():
    old = settings()
    jump = r"the learning rate would jump from 0 to 0\.000526\. .*restarts=\(\{'at': 0\.5, "
    with pytest.raises(UserError, match=rf"{jump}.*--from_step=STEP \(saved: 500, 1000\)"):
        expect_same_past(old, settings(total_steps=2000), 1000, [500, 1000])
    again = settings(total_steps=2000, optimizer__restarts=RESTART)
    expect_same_past(old, again, 1000, [500, 1000])
    expect_same_past(old, settings(total_steps=1200), 500, [500])  # a small rise
    expect_same_past(old, settings(total_steps=600), 500, [500])  # shorter
    with pytest.raises(UserError, match="is 400, and the run is at step 500 already"):
        expect_same_past(old, settings(total_steps=400), 500, [500])


def test_phases_may_change_after_the_checkpoint_only():
    old = settings(stream__phases=PHASES)
    with pytest.raises(UserError, match=r"end at the steps \[900, 1000\] .* now at \[1080, 1200\]"):
        expect_same_past(old, settings(total_steps=1200, stream__phases=PHASES), 950, [950])
    expect_same_past(old, settings(total_steps=1200, stream__phases=PHASES), 800, [800])
    same = ({**PHASES[0], "until": 0.75}, PHASES[1])
    again = ({"at": 950 / 1200, "warmup_steps": 50},)
    longer = settings(total_steps=1200, stream__phases=same, optimizer__restarts=again)
    expect_same_past(old, longer, 950, [950])
    rate = {"stream__final_mask_rate": 0.3}  # changes over the whole run
    with pytest.raises(UserError, match="would have other batches"):
        expect_same_past(settings(**rate), settings(total_steps=1200, **rate), 500, [500])


def test_what_changes_is_listed_and_some_of_it_is_another_run():
    old, new = default_config(), default_config()
    new.seed, new.learning_rate, new.mesh.micro_batches = 1, 5.0, 2
    found = changes(json.loads(to_json(old)), new)
    assert found == [
        Change("learning_rate", 1e-3, 5.0),
        Change("mesh.micro_batches", 1, 2),
        Change("seed", 0, 1),
    ]
    assert [change.field for change in found if not is_same_run(*change)] == ["seed"]


@pytest.mark.parametrize("name", ["init_from", "distillation.teacher"])
@pytest.mark.parametrize(
    ("begun", "given", "taken"),
    [
        ("runs/a@500", "runs/a", "runs/a@500"),  # the step that was the newest then
        ("runs/a@500", "runs/b", "runs/b"),
        ("runs/a@500", "", ""),
        ("FOLDER", "", ""),  # a folder has no step; leaving it out is a change
    ],
)
def test_a_place_keeps_its_step_and_one_that_is_left_out_stays_out(
    finished, tmp_path, name, begun, given, taken
):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    config = read_config(workdir / CONFIG)
    group, _, field = name.rpartition(".")
    (config[group] if group else config)[field] = begun
    (workdir / CONFIG).write_text(json.dumps(config))
    asked = changed(default_config(), {name: given})
    found = as_begun(workdir, asked)
    assert (found[group] if group else found)[field] == taken


def longer(corpus):
    """The config of a run of 24 steps whose first 18 have the batches of one of 20."""
    config = tiny(corpus, total_steps=24)
    phases = [dict(phase) for phase in config.stream.phases]
    phases[0]["until"] = 18 / 24
    config.stream.phases = tuple(phases)
    return config


@pytest.mark.slow
def test_a_finished_run_is_made_longer_and_says_what_changed(corpus, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    config = longer(corpus)
    config.learning_rate = 2e-4
    config.optimizer.restarts = ({"at": 20 / 24, "warmup_steps": 2},)
    said = train(config, workdir).said
    assert "Continuing at step 20 of 24" in said
    changed = {e["field"] for e in metrics.read_events(workdir) if e["event"] == "config_change"}
    assert changed == {"total_steps", "learning_rate", "optimizer.restarts", "stream.phases"}
    later = [record for record in metrics.read(workdir) if record["step"] > 20]
    rates = [record["learning_rate"] for record in later if record["split"] == "train"]
    assert rates[0] == 0.0 < rates[1]


def saved(workdir):
    return sorted(path.name for path in (workdir / CHECKPOINTS).iterdir())


def test_going_back_sets_later_checkpoints_aside_once_and_needs_a_checkpoint(
    corpus, finished, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    with pytest.raises(UserError, match=r"--from_step=11: .* holds the steps 10, 15, 20"):
        go_back(workdir, tiny(corpus, total_steps=24), 11)
    go_back(workdir, tiny(corpus), 10)  # nothing changed: the command that was started again
    assert saved(workdir) == ["10", "15", "20"]
    go_back(workdir, tiny(corpus, total_steps=24), 10)
    assert saved(workdir) == ["10", "15.later", "20.later"]


@pytest.mark.slow
def test_a_finished_run_is_made_longer_from_a_checkpoint_before_the_rate_fell(
    corpus, finished, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(finished.workdir, workdir)
    config = longer(corpus)
    with pytest.raises(UserError, match=r"would jump from 0 .*--from_step=STEP"):
        train(config, workdir)
    train(config, workdir, from_step=10)
    assert {"15.later", "20.later", "24"} <= {*saved(workdir)}
    found, before = records(workdir), records(finished.workdir)
    assert [r["step"] for r in found if r["split"] == "train"] == [*range(1, 25)]
    as_before = [record for record in before if record["step"] <= 10]
    assert found[: len(as_before)] == as_before
    rate = {r["step"]: r["learning_rate"] for r in found if r["split"] == "train"}
    assert rate[11] == pytest.approx(1e-4 * (24 - 10) / (24 - 4))
    digests = [
        [r["input"] for r in run if r["split"] == "train" and 10 < r["step"] <= 18]
        for run in (found, before)
    ]
    assert digests[0] == digests[1]  # the batches do not depend on the length of the run
    changes = [e for e in metrics.read_events(workdir) if e["event"] == "config_change"]
    assert [(e["step"], e["field"]) for e in changes] == [
        (10, "stream.phases"),
        (10, "total_steps"),
    ]
    assert "is finished (24 steps)" in train(config, workdir, from_step=10).said
