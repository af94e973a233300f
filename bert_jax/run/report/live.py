"""Renews the report of a run that goes on: its page, and what the model fills in."""

import dataclasses
import traceback
from pathlib import Path

import jax

from bert_jax.common import console
from bert_jax.corpus.store import TokenStore
from bert_jax.model import ModelConfig, Params
from bert_jax.run import samples
from bert_jax.run.report.document import write


class LiveReport:
    """The report of a run in training."""

    def __init__(self, workdir: Path, store: TokenStore, fills_masks: bool):
        """`fills_masks`: whether the run trains a head that predicts masked tokens."""
        self._workdir = workdir
        self._store = store
        self._fills_masks = fills_masks

    def renew(self, step: int, model: ModelConfig, params: Params) -> None:
        """Record what the model fills in, and write the page; all processes call it.

        A page that cannot be written is no reason to stop a run: it is said, and the run goes on.

        Args:
          step: of the parameters.
          model: of the phase that `step` is in.
          params: spread over all devices of the run.
        """
        if self._fills_masks:
            # Any sharding of the parameters, and inputs that are the same on all devices.
            anywhere = dataclasses.replace(model, attention_backend="xla", rows="packed")
            samples.record(self._workdir, step, self._store, anywhere, params)
        if jax.process_index() != 0:
            return
        try:
            write(self._workdir)
        except Exception:
            console.say(f"Note: the report was not written:\n{traceback.format_exc()}")
