"""The interface of an objective: which examples a run is trained on, and what it minimizes.

One file for each objective. The step, the stream, the metrics, the checks and the inspector know
only this interface. To add one, write a subclass and register it in `OBJECTIVES` (`__init__.py`).
"""

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from bert_jax.corpus.settings import Needs
from bert_jax.corpus.store import Split
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import Batch, Bert, ModelConfig, Params, Totals
from bert_jax.stream.examples import Examples
from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch as HostBatch
from bert_jax.training.frozen import NOTHING, Frozen

Shapes = dict[str, tuple[Any, tuple[int, ...]]]  # dtype and shape of each array


class Ratio(NamedTuple):
    """`part / whole` for `inspect_batches`, formatted as `style` (`.2%`, `.2f`)."""

    part: int
    whole: int
    style: str


class StepObjective(abc.ABC):
    """What the train step knows of an objective: the model, its losses and its metrics.

    Attributes:
      rows: `packed` if a row may hold several documents, `padded` if it never does; lets attention
        choose a backend.
      loss_weights: for each name in `totals`, the weight of its mean loss in the loss.
      frozen: parameters that the losses depend on and that are not trained.
    """

    rows: str
    loss_weights: Mapping[str, float]
    frozen: Frozen = NOTHING

    def given(self, frozen: Params) -> "StepObjective":
        """The objective for a step that is traced: with its frozen parameters as arguments."""
        del frozen
        return self

    @property
    def idle(self) -> str:
        """A regex of parameters that an update leaves as they are, moments included; empty: none.

        Parameters that the loss does not depend on would still decay and follow their momentum.
        """
        return ""

    def build(self, config: ModelConfig, *, rngs: nnx.Rngs) -> nnx.Module:
        """The module that is trained: the encoder with its heads."""
        return Bert(config, rngs=rngs)

    def check_model(self, model: ModelConfig) -> None:  # noqa: B027 (most models suit)
        """Check that the model has the heads that the objective trains, and no others.

        Raises:
          UserError: it does not, with the fields to change.
        """

    @abc.abstractmethod
    def counts(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        """The denominator of each loss, counted in the whole batch before the loss is computed."""

    @abc.abstractmethod
    def totals(self, model: Any, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        """Each loss and its metrics, summed over the batch.

        Args:
          model: to train, as `build` made it.
          batch: rows of a global batch.
          key: of the step, for dropout and sampled losses; None: evaluation, without either.
        """


class Objective(StepObjective):
    """The examples, losses and metrics of a pretraining run.

    Attributes:
      needs: what every split of the corpus must have.
      padding: for arrays that are not 0 in padding rows, their value there.
    """

    needs: Needs = Needs()
    padding: Mapping[str, int] = MappingProxyType({})

    def totals(self, model: Bert, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        return self.losses(model, model.hidden(batch, key), batch, key)

    @abc.abstractmethod
    def losses(
        self, model: Bert, hidden: Float[Array, "B L D"], batch: Batch, key: PRNGKeyArray | None
    ) -> dict[str, Totals]:
        """As `totals`, from the encoder's output for the batch."""

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: ConfigDict) -> "Objective":
        """The objective with its settings.

        Raises:
          UserError: a setting is invalid.
        """

    @abc.abstractmethod
    def examples(
        self, split: Split, vocabulary: Vocabulary, sequence_length: int, *, is_training: bool
    ) -> Examples:
        """The rows of a split.

        Raises:
          UserError: the split does not have what the objective needs.
        """

    @abc.abstractmethod
    def batch_shapes(self, phase: Phase) -> Shapes:
        """Types and shapes of the arrays of a global batch after masking (`stream.rows`)."""

    @abc.abstractmethod
    def inspect_row(self, batch: HostBatch, row: int) -> tuple[str, list[str]]:
        """For `inspect_batches`: a remark about a row, and the part that each token is in."""

    @abc.abstractmethod
    def inspect_batch(self, batch: HostBatch) -> dict[str, Ratio]:
        """For `inspect_batches`: figures of a batch; over several batches the counts are added."""


def masked_lm_shapes(phase: Phase) -> Shapes:
    """The arrays that every batch with masked tokens has."""
    tokens = (np.int32, (phase.global_batch_size, phase.sequence_length))
    predictions = (phase.global_batch_size, phase.max_predictions)
    return {
        "input_ids": tokens,
        "token_type_ids": tokens,
        "position_ids": tokens,
        "segment_ids": tokens,
        "masked_positions": (np.int32, predictions),
        "masked_labels": (np.int32, predictions),
        "masked_weights": (np.float32, predictions),
    }
