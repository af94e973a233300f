"""What objectives with sentence pairs share: masked tokens, and a label for each pair."""

import abc
from types import MappingProxyType
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import Batch, Bert, ModelConfig, Totals
from bert_jax.model.cross_entropy import cross_entropy
from bert_jax.stream.pairs import PairExamples
from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch as HostBatch
from bert_jax.training.objectives.base import Objective, Ratio, Shapes, masked_lm_shapes

LABEL = "next_sentence_label"  # int32 [B]: 0 right pair, 1 wrong pair, -1 padding row


class SentencePairs(Objective, abc.ABC):
    """Losses `mlm`, and `nsp` for the label of each pair; BERT's sum, with a weight for the second.

    Attributes:
      name: of the kind of pairs in `PairExamples`: `nsp` or `sop`.
      label_texts: what labels 0 and 1 mean, for `inspect_batches`.
    """

    rows = "padded"
    padding = MappingProxyType({LABEL: -1})
    name: ClassVar[str]
    label_texts: ClassVar[tuple[str, str]]

    def __init__(self, short_fraction: float, next_sentence_weight: float):
        self.short_fraction = short_fraction  # share of the pairs cut to a random shorter length
        self.loss_weights = {"mlm": 1.0, "nsp": next_sentence_weight}

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Objective":
        if not 0 <= config.stream.short_fraction <= 1:
            raise UserError(
                f"config.stream.short_fraction={config.stream.short_fraction} is not a share in "
                "[0, 1]"
            )
        return cls(config.stream.short_fraction, config.optimizer.next_sentence_weight)

    def check_model(self, model: ModelConfig) -> None:
        if not model.next_sentence:
            raise UserError(
                f"config.stream.objective is {self.name!r} and config.model.next_sentence is "
                "False: pairs need the head that learns from them; set "
                "config.model.next_sentence to True, or config.stream.objective to 'packed'"
            )

    def examples(
        self, split: Split, vocabulary: Vocabulary, sequence_length: int, *, is_training: bool
    ) -> PairExamples:
        short_fraction = self.short_fraction if is_training else 0.0
        return PairExamples(split, vocabulary, self.name, sequence_length, short_fraction)

    def batch_shapes(self, phase: Phase) -> Shapes:
        return masked_lm_shapes(phase) | {LABEL: (np.int32, (phase.global_batch_size,))}

    def counts(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        pairs = (batch[LABEL] >= 0).sum().astype(jnp.float32)
        return {"mlm": batch["masked_weights"].sum(), "nsp": pairs}

    def losses(
        self, model: Bert, hidden: Float[Array, "B L D"], batch: Batch, key: PRNGKeyArray | None
    ) -> dict[str, Totals]:
        label = batch[LABEL]
        weight = (label >= 0).astype(jnp.float32)
        return {
            "mlm": model.mlm_totals(hidden, batch, key),
            "nsp": cross_entropy(model.nsp_logits(hidden), jnp.maximum(label, 0), weight),
        }

    def inspect_row(self, batch: HostBatch, row: int) -> tuple[str, list[str]]:
        is_text = batch["segment_ids"][row] > 0
        parts = np.array(["A", "B"])[batch["token_type_ids"][row, is_text]]
        return self.label_texts[batch[LABEL][row]], parts.tolist()

    def inspect_batch(self, batch: HostBatch) -> dict[str, Ratio]:
        return {"wrong pairs": Ratio(int(batch[LABEL].sum()), len(batch[LABEL]), ".2%")}
