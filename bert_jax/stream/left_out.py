"""Batches of a run that are left out, so that the steps after them use the later ones.

Batches are numbered as the steps would use them if none were left out. A phase has its own numbers,
from its first step on; leaving some out shifts those after them, and the last ones come from beyond
the phase's end. What the phase did not use that way, later phases of the same length do not repeat.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bert_jax.stream.phases import Phase


class LeftOut(NamedTuple):
    """The batches with the numbers `first` ... `stop` - 1 of a phase."""

    phase: int
    first: int
    stop: int


def batch_number(left_out: Sequence[LeftOut], phase: Phase, step: int) -> int:
    """The number of the batch that `step` uses; `left_out` is in ascending order."""
    number = step
    for _, first, stop in (part for part in left_out if part.phase == phase.index):
        if number >= first:
            number += stop - first
    return number


def examples_left_out(left_out: Sequence[LeftOut], phases: Sequence[Phase], phase: Phase) -> int:
    """How many examples the phases before `phase` of the same length left out."""
    return sum(
        (part.stop - part.first) * phases[part.phase].global_batch_size
        for part in left_out
        if part.phase < phase.index and phases[part.phase].sequence_length == phase.sequence_length
    )


def leave_out(
    left_out: Sequence[LeftOut], phase: Phase, first_step: int, stop_step: int
) -> tuple[LeftOut, ...]:
    """`left_out`, and the batches that the steps first_step ... stop_step - 1 use now."""
    numbers = [batch_number(left_out, phase, step) for step in range(first_step, stop_step)]
    return tuple(sorted([*left_out, *(LeftOut(phase.index, n, n + 1) for n in numbers)]))
