"""The steps of a run that is given in time: `config.budget`, where `config.total_steps` is 0.

The steps are measured on the run's devices and stream, and then fixed: train.py records them in
`config.json`, so that the run is a function of its config from then on. The budget is that of the
training: steps, evaluations and the start of saves. What comes before (the corpus, compiling the
step, this measurement) and after (the export) is not in it.
"""

import functools
import math
import time
from collections.abc import Mapping
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from bert_jax.common import console, processes
from bert_jax.common.errors import UserError
from bert_jax.common.lengths import seconds
from bert_jax.config import RunSettings
from bert_jax.corpus.store import TokenStore
from bert_jax.stream.batches import TrainBatches
from bert_jax.stream.phases import Phase
from bert_jax.training import sharding
from bert_jax.training.evaluation import HeldOut
from bert_jax.training.step import Steps, compile_steps

WARM_UP = 3  # steps before the clock starts: the first one compiles
LEAST_STEPS, LEAST_SECONDS, SHARE = 5, 3.0, 0.02  # that are measured: the longest of them
EVALUATION_BATCHES = 4  # that are measured, after as many that compile
FEWEST = 10  # steps of a run
IN_BUDGET = ("steps", "input", "evaluation", "saving")  # kinds of time, of run.goodput


class Evaluation(NamedTuple):
    """Seconds of one evaluation, and of compiling it before the first."""

    seconds: float
    compiling: float


def expect_used(config: ConfigDict, preset: ConfigDict) -> None:
    """Check that a budget which was given beside a config file is not without effect.

    Raises:
      UserError: the steps of the file count, and not it.
    """
    is_given = config.budget and config.budget != preset.budget
    if is_given and preset.total_steps and config.total_steps == preset.total_steps:
        raise UserError(
            f"config.budget={config.budget} is without effect, since config.total_steps is "
            f"{config.total_steps}: add --config.total_steps=0"
        )


def measured_steps(
    config: ConfigDict,
    settings: RunSettings,
    store: TokenStore,
    mesh: Mesh,
    order: tuple[int, ...],
) -> int:
    """How many steps, with their evaluations, the run's devices make in the budget.

    Args:
      config: of the run.
      settings: the same, parsed without knowing the steps: the phases are shares, and only the
        shape of the schedule depends on their number.
      store: of the run.
      mesh: of the run.
      order: of the tokens, for heads that need it.

    Raises:
      UserError: the budget is too short for a run.
    """
    available = seconds("budget", config.budget)
    stream = TrainBatches(store, settings.stream)
    phases = settings.stream.phases
    models = settings.models(store.vocabulary.size, order)
    console.say(f"Measuring the step, to fit the run into its budget of {config.budget}.")
    step_seconds, evaluation = 0.0, Evaluation(0.0, 0.0)
    for phase, model in zip(phases, models, strict=True):
        steps = compile_steps(settings.training, model, mesh)
        share = (phase.stop - phase.start) / settings.total_steps
        step_seconds += share * _time_steps(phase, steps, stream, mesh, available * share)
        if phase is phases[-1]:
            evaluation = _time_evaluation(settings, steps, store, mesh)
    total = processes.of_first(
        lambda: steps_that_fit(available, step_seconds, evaluation, config.eval_every),
        "measure the step",
    )
    if total < FEWEST:
        raise UserError(
            f"config.budget={config.budget} is too short: a step takes {step_seconds:.2g} s here, "
            f"and an evaluation {evaluation.seconds:.2g} s (config.eval_every="
            f"{config.eval_every:g}); give more time, or lower config.eval_batches or "
            "config.global_batch_size"
        )
    console.say(
        f"A step takes {1e3 * step_seconds:.3g} ms, an evaluation {evaluation.seconds:.2g} s: "
        f"{total} steps."
    )
    return total


def steps_that_fit(
    available: float, step_seconds: float, evaluation: Evaluation, eval_every: float | int
) -> int:
    """Steps for which there is time, with their evaluations and the one after the last step.

    Args:
      available: seconds.
      step_seconds: of one step.
      evaluation: its cost.
      eval_every: `config.eval_every`: steps, or below 1 a share of the run.
    """
    is_share = eval_every < 1
    evaluations = math.ceil(round(1 / eval_every, 6)) if is_share else 1
    per_step = 0.0 if is_share else evaluation.seconds / eval_every
    left = available - evaluation.compiling - evaluations * evaluation.seconds
    return max(0, int(left / (step_seconds + per_step)))


def took(budget: str, spent: Mapping[str, float]) -> str:
    """One line on the time that this process trained, beside the budget of the run.

    Args:
      budget: `config.budget`.
      spent: seconds of this process by kind (`run.goodput`).
    """
    seconds_trained = sum(spent.get(kind, 0.0) for kind in IN_BUDGET)
    return f"Training took {seconds_trained:.1f} s; the run's budget is {budget}."


def _time_steps(
    phase: Phase, steps: Steps, stream: TrainBatches, mesh: Mesh, available: float
) -> float:
    """Seconds of a step, with the stream that feeds it; the state is thrown away."""
    from bert_jax.stream import pipeline  # imports TensorFlow, which takes seconds

    rows = functools.partial(sharding.process_rows, mesh)
    batches = pipeline.train_batches(stream, phase.start, phase.stop, rows)
    state = steps.init()

    def run(count: int) -> float:
        nonlocal state
        began = time.monotonic()
        for _ in range(count):
            batch = sharding.place_batch(mesh, next(batches), phase.global_batch_size)
            state, figures = steps.train(state, batch)
        jax.block_until_ready((state, figures))
        return time.monotonic() - began

    left = phase.stop - phase.start - WARM_UP - LEAST_STEPS
    if left < 0:
        raise UserError(
            f"config.stream.phases[{phase.index}] is too small a share of a run to be measured: "
            "set config.total_steps instead of config.budget"
        )
    run(WARM_UP)
    first = run(LEAST_STEPS)
    wanted = max(LEAST_SECONDS, SHARE * available)
    # All processes run the same steps, whatever their clocks say.
    count = processes.of_first(
        lambda: min(left, int(wanted / first * LEAST_STEPS)), "measure the step"
    )
    return (first + (run(count) if count else 0.0)) / (LEAST_STEPS + count)


def _time_evaluation(
    settings: RunSettings, steps: Steps, store: TokenStore, mesh: Mesh
) -> Evaluation:
    """The cost of an evaluation, from a part of it."""
    phase = settings.stream.phases[-1]

    def held_out(most: int) -> HeldOut:
        rows = functools.partial(sharding.process_rows, mesh)
        length, batch_size = phase.sequence_length, phase.global_batch_size
        return HeldOut(store, "heldout", settings.objective, length, batch_size, rows, most)

    params = steps.init().params
    short = held_out(min(EVALUATION_BATCHES, settings.eval_batches))
    began = time.monotonic()
    short.totals(mesh, steps, params)  # compiles
    compiled = time.monotonic()
    short.totals(mesh, steps, params)
    took = time.monotonic() - compiled
    whole = took / len(short) * len(held_out(settings.eval_batches))
    return Evaluation(whole, max(0.0, compiled - began - took))
