"""Where the time of a run went, over restarts: all of it, each second once."""

import time

import pytest

from bert_jax.run import goodput


def test_a_clock_spends_every_second_on_one_kind():
    clock = goodput.Clock(time.time() - 10.0)
    clock.switch("steps")
    time.sleep(0.05)
    with clock.spending("input"):
        time.sleep(0.05)
        with clock.spending("saving"):
            time.sleep(0.05)
    seconds = clock.seconds()
    assert seconds["starting"] == pytest.approx(10.0, abs=0.04)
    for kind in ("steps", "input", "saving"):
        assert 0.05 <= seconds[kind] < 1.0
    assert sum(seconds.values()) == pytest.approx(time.time() - clock.began, abs=0.05)


def test_a_process_knows_when_it_was_started():
    began = goodput.process_start()
    assert began < time.time()
    assert goodput.process_start() == pytest.approx(began, abs=0.05)


def event(name, step, at, **fields):
    return {"event": name, "step": step, "time": at, **fields}


def test_lost_work_is_what_came_after_the_checkpoint_that_survived():
    lines = [
        event("start", 0, 104.0, started=100.0),
        event("goodput", 5, 120.0, starting=4.0, steps=16.0),
        {"split": "train", "step": 8, "time": 130.0},
    ]
    resume = goodput.before_resume(lines, 5, began=190.0)
    assert resume == {"lost_steps": 3, "lost_seconds": 10.0, "down_seconds": 60.0}
    # Killed again before the next checkpoint: all of that process is lost.
    lines += [
        event("start", 5, 195.0, started=190.0),
        event("resume", 5, 195.0, **resume),
        {"split": "train", "step": 6, "time": 200.0},
    ]
    again = goodput.before_resume(lines, 5, began=201.0)
    assert again == {"lost_steps": 1, "lost_seconds": 10.0, "down_seconds": 1.0}
    lines += [
        event("start", 5, 202.0, started=201.0),
        event("resume", 5, 202.0, **again),
        event("goodput", 10, 211.0, starting=1.0, steps=9.0),
    ]
    total = goodput.total([line for line in lines if "event" in line])
    assert total == {"down": 61.0, "steps": 25.0, "lost": 20.0, "starting": 5.0}
    assert sum(total.values()) == 211.0 - 100.0
    assert goodput.describe(total).startswith("down 55.0%, steps 22.5%, lost 18.0%")


def test_a_run_that_lost_everything_begins_anew_and_says_so():
    lines = [
        event("start", 0, 104.0, started=100.0),
        {"split": "train", "step": 3, "time": 110.0},
    ]
    assert goodput.before_resume(lines, 0, began=112.0) == {
        "lost_steps": 3,
        "lost_seconds": 10.0,
        "down_seconds": 2.0,
    }
