"""Evaluations of a run in training: held-out text, the probe, and the report that shows them."""

import functools
from collections.abc import Sequence
from pathlib import Path

from jax.sharding import Mesh

from bert_jax.config import RunSettings
from bert_jax.corpus.store import TokenStore
from bert_jax.model import ModelConfig
from bert_jax.run.probe import make_probe
from bert_jax.run.progress import Reporter
from bert_jax.run.report.live import LiveReport
from bert_jax.stream.phases import Phase
from bert_jax.training import sharding
from bert_jax.training.evaluation import HeldOut
from bert_jax.training.step import StepFigures, Steps, TrainState


class Evaluations:
    """What is evaluated in a run, and at which steps."""

    def __init__(
        self,
        settings: RunSettings,
        directory: Path,
        store: TokenStore,
        models: Sequence[ModelConfig],
        mesh: Mesh,
    ):
        """Takes the held-out examples in rows of the last phase.

        Args:
          settings: of the run.
          directory: of the run.
          store: of the run.
          models: the encoder in each phase.
          mesh: of the devices.

        Raises:
          UserError: the probe's data cannot be used.
        """
        last = settings.stream.phases[-1]
        self._settings, self._models, self._mesh = settings, models, mesh
        self._held_out = HeldOut(
            store,
            "heldout",
            settings.objective,
            last.sequence_length,
            last.global_batch_size,
            functools.partial(sharding.process_rows, mesh),
            most=settings.eval_batches,
        )
        self._probe = make_probe(settings, models[-1], store, mesh)
        self._live = LiveReport(directory, store, "mlm" in settings.objective.loss_weights)

    def run(
        self,
        done: int,
        phase: Phase,
        steps: Steps,
        state: TrainState,
        figures: StepFigures,
        reporter: Reporter,
    ) -> float | None:
        """Evaluate the state after `done` updates, if that is due; all processes call it.

        Args:
          done: updates of `state`.
          phase: of the last update.
          steps: compiled, of this phase.
          state: to evaluate.
          figures: of the last update.
          reporter: that writes the results.

        Returns:
          The held-out loss over all sources; None: it was not due.
        """
        is_last = done == self._settings.total_steps
        is_held_out = is_last or done % self._settings.eval_every == 0
        is_probe = self._probe and (is_last or done % self._settings.probe.every == 0)
        if not (is_held_out or is_probe):
            return None
        loss = None
        with reporter.pause(figures, "evaluation"):
            if is_held_out:
                totals = self._held_out.totals(self._mesh, steps, state.params)
                loss = reporter.evaluation(done, "heldout", totals)
            if self._probe and is_probe:
                reporter.probe(done, self._probe.scores(state.params))
            if is_held_out:  # after the probe, which the page shows
                self._live.renew(done, self._models[phase.index], state.params)
        return loss
