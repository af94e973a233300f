"""`packed`: masked tokens in rows of several documents (RoBERTa's and ModernBERT's objective)."""

from types import MappingProxyType

from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.corpus.store import Split
from bert_jax.corpus.tokenizers.vocabulary import Vocabulary
from bert_jax.model import Batch, Bert, ModelConfig, Totals
from bert_jax.stream.packed import PackedExamples
from bert_jax.stream.phases import Phase
from bert_jax.stream.rows import Batch as HostBatch
from bert_jax.training.objectives.base import Objective, Ratio, Shapes, masked_lm_shapes


class PackedMaskedLM(Objective):
    """The cross-entropy of the masked tokens: loss `mlm`."""

    rows = "packed"
    loss_weights = MappingProxyType({"mlm": 1.0})

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Objective":
        del config  # the masking is set by the phases
        return cls()

    def check_model(self, model: ModelConfig) -> None:
        if model.next_sentence:
            raise UserError(
                "config.stream.objective is 'packed' and config.model.next_sentence is True: "
                "packed rows have no pairs to train that head; set config.model.next_sentence to "
                "False, or config.stream.objective to 'nsp' or 'sop'"
            )

    def examples(
        self, split: Split, vocabulary: Vocabulary, sequence_length: int, *, is_training: bool
    ) -> PackedExamples:
        del is_training  # packed rows use no randomness besides masking
        return PackedExamples(split, vocabulary, sequence_length)

    def batch_shapes(self, phase: Phase) -> Shapes:
        return masked_lm_shapes(phase)

    def counts(self, batch: Batch) -> dict[str, Float[Array, ""]]:
        return {"mlm": batch["masked_weights"].sum()}

    def losses(
        self, model: Bert, hidden: Float[Array, "B L D"], batch: Batch, key: PRNGKeyArray | None
    ) -> dict[str, Totals]:
        return {"mlm": model.mlm_totals(hidden, batch, key)}

    def inspect_row(self, batch: HostBatch, row: int) -> tuple[str, list[str]]:
        segments = batch["segment_ids"][row]
        return "", segments[segments > 0].astype(str).tolist()

    def inspect_batch(self, batch: HostBatch) -> dict[str, Ratio]:
        segments = batch["segment_ids"]
        documents = int(segments.max(axis=1).sum())
        return {"documents a row": Ratio(documents, len(segments), ".2f")}
