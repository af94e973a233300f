"""Training inside of a benchmark: a config on a token store, with its held-out curve.

As `bert_jax.train` trains, without a workdir: nothing is saved or exported.
"""

import dataclasses
import functools
import time
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from bert_jax.config import parse
from bert_jax.corpus.store import TokenStore
from bert_jax.performance import flops
from bert_jax.run import distilling, metrics
from bert_jax.stream import pipeline
from bert_jax.stream.batches import TrainBatches
from bert_jax.training import sharding
from bert_jax.training.evaluation import ALL, HeldOut
from bert_jax.training.preflight import check
from bert_jax.training.step import compile_steps


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a learning curve.

    Attributes:
      step: updates so far.
      tokens: of all batches so far, in millions; padding is not counted apart.
      flops: of training so far, in units of 10^12.
      seconds: of training so far, without compiling and evaluating.
      cpu_seconds: of all threads of this process in the same time.
      train_loss: of the last batch.
      held_out: losses and accuracies at this step; empty: not evaluated.
    """

    step: int
    tokens: float
    flops: float
    seconds: float
    cpu_seconds: float
    train_loss: float
    held_out: dict[str, float]


def learn(config: ConfigDict, store: TokenStore) -> Iterator[Point]:
    """Train, and yield a point every `log_every` steps; evaluated every `eval_every` steps."""
    settings = parse(config, distilling.load(config))
    mesh = sharding.make_mesh(settings.training.mesh)
    models = settings.models(store.vocabulary.size)
    phases = settings.stream.phases
    check(settings.training, phases, models, mesh)
    compiled = {model: compile_steps(settings.training, model, mesh) for model in models}
    rows = functools.partial(sharding.process_rows, mesh)
    stream = TrainBatches(store, settings.stream)
    batches = pipeline.train_batches(stream, 0, settings.total_steps, rows)
    held_out = HeldOut(
        store,
        "heldout",
        settings.objective,
        phases[-1].sequence_length,
        phases[-1].global_batch_size,
        rows,
        settings.eval_batches,
    )
    state = compiled[models[0]].init()
    tokens = work = seconds = cpu_seconds = 0.0
    for phase, model in zip(phases, models, strict=True):
        steps = compiled[model]
        for step in range(phase.start, phase.stop):
            began, cpu_began = time.monotonic(), time.process_time()
            batch = sharding.place_batch(mesh, next(batches), phase.global_batch_size)
            state, figures = steps.train(state, batch)
            jax.block_until_ready(figures)
            if step > phase.start:  # the first step of a phase is compiled first
                seconds += time.monotonic() - began
                cpu_seconds += time.process_time() - cpu_began
            row = flops.training(model, phase.sequence_length, phase.max_predictions)
            tokens += phase.global_batch_size * phase.sequence_length / 1e6
            work += phase.global_batch_size * row / 1e12
            done = step + 1
            is_last = done == settings.total_steps
            if done % settings.log_every and not is_last:
                continue
            found = {}
            if done % settings.eval_every == 0 or is_last:
                totals = held_out.totals(mesh, steps, state.params)[ALL]
                found = metrics.summarize(totals, settings.objective.loss_weights)
            loss = metrics.summarize(figures.totals, settings.objective.loss_weights)["loss"]
            yield Point(done, tokens, work, seconds, cpu_seconds, loss, found)
