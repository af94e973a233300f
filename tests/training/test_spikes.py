"""A spike of the loss: what is one, and that a run leaves its batches out, however it is killed."""

import shutil
import time

import numpy as np
import pytest

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, parse
from bert_jax.corpus.store import TokenStore
from bert_jax.run import goodput, initial, metrics, rollback
from bert_jax.run.progress import Reporter
from bert_jax.run.workdir import CHECKPOINTS
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.left_out import LeftOut, batch_number, leave_out
from bert_jax.training.spikes import SpikeError, SpikeSettings, SpikeWatch, robust
from tests.runs import assert_same_bytes, records, tiny, train, whole_state

SETTINGS = SpikeSettings(threshold=20.0, window=16, left_out=4, rollbacks=2)
PHASES = parse(default_config()).stream.phases


def noise(steps):
    return 5.0 + 0.1 * np.random.default_rng(0).normal(size=steps)


def test_noise_is_no_spike_and_what_is_far_above_it_is():
    watch = SpikeWatch(SETTINGS)
    for step, loss in enumerate(noise(300), start=1):
        watch.add(step, PHASES[0], float(loss))
    watch.add(301, PHASES[0], float("nan"))  # an update that was left out
    median, deviation = robust(watch.losses)
    assert deviation == pytest.approx(0.1, rel=0.5)
    with pytest.raises(SpikeError, match=r"loss of step 302 is 9, .* deviations above") as found:
        watch.add(302, PHASES[0], 9.0)
    assert found.value.deviations == pytest.approx((9.0 - median) / deviation)
    assert len(watch.losses) == 16


def test_a_window_that_is_not_full_or_the_threshold_0_find_nothing():
    for settings in (SETTINGS, SpikeSettings(0.0, 16, 4, 2)):
        watch = SpikeWatch(settings)
        for step in range(1, 16 if settings is SETTINGS else 30):
            watch.add(step, PHASES[0], 1.0)
        watch.add(30, PHASES[0], 100.0)


def test_what_is_remembered_is_enough_to_decide_the_same():
    first = SpikeWatch(SETTINGS)
    for step, loss in enumerate(noise(20), start=1):
        first.add(step, PHASES[0], float(loss))
    again = SpikeWatch(SETTINGS, first.phase, list(first.losses))
    decisions = []
    for watch in (first, again):
        with pytest.raises(SpikeError) as found:
            watch.add(21, PHASES[0], 8.0)
        decisions.append(str(found.value))
    assert decisions[0] == decisions[1]


def test_batches_that_are_left_out_are_used_by_no_step_and_all_others_once():
    phase = PHASES[0]
    left_out = leave_out((), phase, 6, 10)
    assert [batch_number(left_out, phase, step) for step in range(8)] == [*range(6), 10, 11]
    left_out = leave_out(left_out, phase, 4, 8)  # a second spike, before and after the gap
    assert [batch_number(left_out, phase, step) for step in range(8)] == [*range(4), *range(12, 16)]


def test_a_stream_shifts_and_later_phases_of_the_same_length_repeat_nothing(finished):
    config = tiny("text:unused")
    for phase in config.stream.phases:
        phase["sequence_length"] = 32
    store = TokenStore.open(finished.workdir / "corpus")
    settings = parse(config).stream
    plain = TrainBatches(store, settings)
    gap = TrainBatches(store, settings, (LeftOut(0, 6, 9),))
    np.testing.assert_array_equal(gap.batch(5)["input_ids"], plain.batch(5)["input_ids"])
    np.testing.assert_array_equal(gap.batch(6)["input_ids"], plain.batch(9)["input_ids"])
    border = settings.phases[1].start
    shifted = [gap.example_index(step) for step in range(border, 20)]
    straight = [plain.example_index(step) for step in range(border, 20)]
    np.testing.assert_array_equal(
        np.concatenate(shifted)[: -3 * 8], np.concatenate(straight)[3 * 8 :]
    )


SPIKE = SpikeError(31, PHASES[0], 9.0, 5.0, 40.0)


def saved(workdir, *names):
    for name in names:
        (workdir / CHECKPOINTS / name).mkdir(parents=True)
        (workdir / CHECKPOINTS / name / "file").touch()
    return workdir / CHECKPOINTS


def test_going_back_removes_what_a_killed_process_had_begun_to_remove(tmp_path):
    checkpoints = saved(tmp_path, "10", "20", "30", "30.spike")
    rollback.go_back(checkpoints, SETTINGS, SPIKE, begin=0, checkpoint_every=10)
    assert {path.name for path in checkpoints.iterdir()} == {"10", "20"}
    assert [spike["first"] for spike in rollback.read(tmp_path)] == [27]


def test_a_run_whose_earlier_checkpoints_are_gone_is_not_thrown_away(tmp_path):
    checkpoints = saved(tmp_path, "30")
    with pytest.raises(UserError, match=r"no checkpoint is left .* \(saved: 30\).* to 1 or fewer"):
        rollback.go_back(checkpoints, SETTINGS, SPIKE, begin=0, checkpoint_every=10)
    assert (checkpoints / "30" / "file").exists()
    assert rollback.read(tmp_path) == []
    # It is the first one of a run that branched off at step 28.
    rollback.go_back(checkpoints, SETTINGS, SPIKE, begin=28, checkpoint_every=10)
    assert not (checkpoints / "30").exists()
    assert [spike["first"] for spike in rollback.read(tmp_path)] == [28]


def test_a_branch_leaves_out_what_its_source_had_left_out_by_then(tmp_path):
    spikes = [{"first": 16, "left_out": [[0, 16, 20]]}, {"first": 36, "left_out": []}]
    rollback.write(tmp_path, spikes)
    config = default_config()
    config.init_from, config.init_state = f"{tmp_path}@30", "all"
    assert initial.spikes(tmp_path / "branch", config) == spikes[:1]
    config.init_state = "params"
    assert initial.spikes(tmp_path / "branch", config) == []


FIELDS = {
    "spikes.window": 6,
    "spikes.left_out": 2,
    "spikes.threshold": 3.5,
    "checkpoint_every": 4,
    "learning_rate": 1e-2,
}


@pytest.fixture
def corrupted(monkeypatch):
    """Batch 13 of every run has wrong labels, so that the loss of its step jumps."""
    build = TrainBatches.batch

    def batch(self, step, *rows_of):
        found = build(self, step, *rows_of)
        if batch_number(self._left_out, self.settings.phase_at(step), step) == 13:
            is_predicted = found["masked_weights"] > 0
            found["masked_labels"] = np.where(is_predicted, 299, 0).astype(np.int32)
            found["next_sentence_label"] = 1 - found["next_sentence_label"]
        return found

    monkeypatch.setattr(TrainBatches, "batch", batch)


class KilledError(Exception):
    """Stands for SIGKILL: nothing more is saved or written."""


def die(*_):
    raise KilledError


@pytest.mark.slow
def test_a_run_leaves_out_the_batches_before_a_spike_and_a_killed_one_the_same(
    corpus, corrupted, tmp_path, monkeypatch
):
    config = tiny(corpus, **FIELDS)
    run = train(config, tmp_path / "unbroken")
    assert "the loss of step 14 is" in run.said
    assert "the batches of the steps 12 to 13 are left out from now on (1 of at most 3" in run.said
    (spike,) = rollback.read(run.workdir)
    assert rollback.batches([spike]) == (LeftOut(0, 12, 13), LeftOut(0, 13, 14))
    events = [(e["event"], e["step"]) for e in metrics.read_events(run.workdir)]
    assert ("rollback", 14) in events
    assert ("skipped", 13) in events
    times = metrics.read_events(run.workdir)
    whole = times[-1]["time"] - times[0]["started"]
    assert sum(goodput.total(times).values()) == pytest.approx(whole, abs=0.5)
    assert [r["step"] for r in records(run.workdir) if r["split"] == "train"] == [*range(1, 21)]

    workdir = tmp_path / "killed"
    with monkeypatch.context() as before_it_is_recorded:
        before_it_is_recorded.setattr(rollback, "write_json", die)
        with pytest.raises(KilledError):
            train(config, workdir)
    with monkeypatch.context() as at_step_18:
        go_on = Reporter.train
        at_step_18.setattr(
            Reporter, "train", lambda *args: die() if args[1] == 18 else go_on(*args)
        )
        with pytest.raises(KilledError):
            train(config, workdir)
    deadline = time.monotonic() + 30  # a real kill would end the thread that saves step 16
    while list((workdir / CHECKPOINTS).glob("*tmp*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    train(config, workdir)
    assert metrics.comparable(workdir) == metrics.comparable(run.workdir)
    assert rollback.read(workdir) == rollback.read(run.workdir)

    # A branch leaves out what its source had left out.
    place = {"init_from": f"{run.workdir}@16", "corpus.directory": f"{run.workdir}/corpus"}
    branch = tmp_path / "branch"
    train(tiny(corpus, **FIELDS, **place, init_state="all"), branch)
    assert rollback.read(branch) == rollback.read(run.workdir)
    assert_same_bytes(whole_state(branch), whole_state(run.workdir))

    # A run that leaves the window out from its start ends in the same bytes.
    monkeypatch.undo()  # batch 13 is as it should be, and used by no step
    clean = tmp_path / "clean"
    clean.mkdir()
    shutil.copy(run.workdir / rollback.FILE, clean)
    assert "robust deviations" not in train(config, clean).said
    assert_same_bytes(whole_state(clean), whole_state(run.workdir))
    assert metrics.comparable(clean) == metrics.comparable(run.workdir)


@pytest.mark.slow
def test_after_so_many_rollbacks_the_run_stops_and_says_what_to_try(corpus, corrupted, tmp_path):
    config = tiny(corpus, **FIELDS, **{"spikes.rollbacks": 0})
    with pytest.raises(UserError, match=r"spikes.rollbacks=0 is reached\. Look at .* --step=13"):
        train(config, tmp_path)
    assert max(int(p.name) for p in (tmp_path / CHECKPOINTS).iterdir()) == 12
