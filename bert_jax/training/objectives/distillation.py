"""Distillation: an objective with a teacher, an encoder that is larger or trained longer.

The student learns the teacher's self-attention relations and its predictions of masked tokens,
besides the losses of the objective (`config.distillation`).
"""

import copy
import dataclasses
from collections.abc import Mapping

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import Batch, Bert, ModelConfig, Params, Totals, abstract
from bert_jax.model.bert import gather_positions
from bert_jax.model.distillation import relation_totals, soft_target_totals
from bert_jax.stream.examples import Examples
from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch as HostBatch
from bert_jax.training.frozen import Frozen
from bert_jax.training.objectives.base import Objective, Ratio, Shapes

RELATIONS, SOFT = "relations", "soft"  # names of the losses


@dataclasses.dataclass(frozen=True)
class DistillationSettings:
    """The fields of `config.distillation`.

    Raises:
      UserError: one is out of its range.
    """

    teacher: str = ""
    teacher_layer: int = 0
    relation_heads: int = 16
    relation_weight: float = 1.0
    soft_weight: float = 1.0
    temperature: float = 1.0
    mlm_weight: float = 1.0

    def __post_init__(self):
        for name in ("relation_weight", "soft_weight", "teacher_layer"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"config.distillation.{name} is {getattr(self, name)}: set it to 0 or more"
                )
        for name in ("temperature", "mlm_weight"):  # held-out losses are weighted by the second
            if not getattr(self, name) > 0:
                raise UserError(
                    f"config.distillation.{name} is {getattr(self, name)}: set it above 0"
                )
        if self.relation_heads < 1:
            raise UserError(
                f"config.distillation.relation_heads is {self.relation_heads}: set it to 1 or more"
            )
        if self.teacher and not (self.relation_weight or self.soft_weight):
            raise UserError(
                f"config.distillation.teacher is {self.teacher}, and relation_weight and "
                "soft_weight are 0: set one of them, or no teacher"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """A trained encoder with its heads.

    Attributes:
      name: the workdir and step, or folder, that it is from.
      model: its architecture.
      frozen: its parameters.
      fingerprint: a hash of the parameters.
      vocabulary: a hash of the tokens of its tokenizer.
    """

    name: str
    model: ModelConfig
    frozen: Frozen
    fingerprint: str
    vocabulary: str


class Distillation(Objective):
    """The losses of an objective, and `relations` and `soft` beside a teacher.

    In evaluation it is the objective alone, so that figures compare with runs without a teacher.
    """

    def __init__(self, base: Objective, settings: DistillationSettings, teacher: Teacher):
        """`base`: says what the examples are, and what is learned from them."""
        self.base, self.settings, self.teacher = base, settings, teacher
        self.rows, self.needs, self.padding = base.rows, base.needs, base.padding
        weights = {name: settings.mlm_weight * each for name, each in base.loss_weights.items()}
        added = {RELATIONS: settings.relation_weight, SOFT: settings.soft_weight}
        self._added = {name: weight for name, weight in added.items() if weight}
        self.loss_weights: Mapping[str, float] = weights | self._added
        self.frozen = teacher.frozen
        self._params = teacher.frozen.params

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Objective":
        raise TypeError("an objective is distilled by config.distillation, not by its name")

    def given(self, frozen: Params) -> "Distillation":
        bound = copy.copy(self)
        bound._params = frozen
        return bound

    def check_model(self, model: ModelConfig) -> None:
        self.base.check_model(model)
        theirs, heads, layer = (
            self.teacher.model,
            self.settings.relation_heads,
            self.settings.teacher_layer,
        )
        if layer > theirs.num_hidden_layers:
            raise UserError(
                f"config.distillation.teacher_layer is {layer}, and the teacher "
                f"{self.teacher.name} has {theirs.num_hidden_layers} layers: choose one of them, "
                "or 0, the last"
            )
        if RELATIONS in self._added and (model.hidden_size % heads or theirs.hidden_size % heads):
            raise UserError(
                f"config.distillation.relation_heads is {heads}: it must divide "
                f"config.model.hidden_size={model.hidden_size} and {theirs.hidden_size}, that of "
                f"the teacher {self.teacher.name}"
            )

    def counts(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        tokens = (batch["segment_ids"] > 0).sum().astype("float32")
        counts = {RELATIONS: tokens, SOFT: batch["masked_weights"].sum()}
        return self.base.counts(batch) | {name: counts[name] for name in self._added}

    def totals(self, model: Bert, batch: Batch, key: PRNGKeyArray | None) -> dict[str, Totals]:
        if key is None:
            return self.base.totals(model, batch, None)
        ours = model.projected(batch, model.encoder.config.num_hidden_layers - 1, key)
        teacher = self._teacher(model.encoder.config.compute_dtype)
        layer = (self.settings.teacher_layer or self.teacher.model.num_hidden_layers) - 1
        # Of both, what no loss uses is not computed: layers above the teacher's, its head.
        theirs = teacher.projected(batch, layer)
        found = self.base.losses(model, ours.hidden, batch, key)
        if RELATIONS in self._added:
            found[RELATIONS] = relation_totals(
                ours.projections,
                theirs.projections,
                batch["segment_ids"],
                self.settings.relation_heads,
            )
        if SOFT in self._added:
            found[SOFT] = soft_target_totals(
                gather_positions(ours.hidden, batch["masked_positions"]),
                gather_positions(theirs.hidden, batch["masked_positions"]),
                model.mlm_logits,
                teacher.mlm_logits,
                batch["masked_weights"],
                self.settings.temperature,
            )
        return found

    def _teacher(self, compute_dtype: str) -> Bert:
        """The teacher, computed in the student's type and on its kind of rows."""
        config = dataclasses.replace(
            self.teacher.model, rows=self.rows, compute_dtype=compute_dtype
        )
        structure, _ = abstract(config)
        return nnx.merge(structure, jax.lax.stop_gradient(self._params))

    def losses(
        self, model: Bert, hidden: Float[Array, "B L D"], batch: Batch, key: PRNGKeyArray | None
    ) -> dict[str, Totals]:
        return self.base.losses(model, hidden, batch, key)

    def examples(
        self, split: Split, vocabulary: Vocabulary, sequence_length: int, *, is_training: bool
    ) -> Examples:
        return self.base.examples(split, vocabulary, sequence_length, is_training=is_training)

    def batch_shapes(self, phase: Phase) -> Shapes:
        return self.base.batch_shapes(phase)

    def inspect_row(self, batch: HostBatch, row: int) -> tuple[str, list[str]]:
        return self.base.inspect_row(batch, row)

    def inspect_batch(self, batch: HostBatch) -> dict[str, Ratio]:
        return self.base.inspect_batch(batch)
