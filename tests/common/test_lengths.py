"""Lengths of a run's parts: steps, or shares of it."""

import pytest

from bert_jax.common.errors import UserError
from bert_jax.common.lengths import interval, steps


@pytest.mark.parametrize("total", [20, 100, 1472, 1999])
@pytest.mark.parametrize("events", [2, 4, 5, 7])
def test_a_share_gives_as_many_events_as_it_says(total, events):
    every = interval("eval_every", 1 / events, total)
    due = [step for step in range(1, total + 1) if step % every == 0 or step == total]
    assert len(due) == events


def test_a_share_without_a_remainder_is_exact():
    assert interval("eval_every", 0.07, 100) == 7  # 7.000000000000001 in floating point
    assert interval("eval_every", 300, 100) == 300
    assert steps("warmup_steps", 0.1, 1472) == 147


def test_an_interval_of_no_step_is_refused():
    with pytest.raises(UserError, match=r"config\.eval_every is 0: set it to a whole number"):
        interval("eval_every", 0, 100)
