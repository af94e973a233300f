"""The encoder with its pretraining heads, and its parameters as a plain tree."""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.config import ModelConfig
from bert_jax.model.cross_entropy import Totals, cross_entropy
from bert_jax.model.encoder import Encoder
from bert_jax.model.heads import HEADS, NextSentenceHead

Batch = Mapping[str, Array]
Params = dict[str, Any]
HEAD_STREAM = zlib.crc32(b"head")  # apart from the keys of the layers' dropout


class Outputs(NamedTuple):
    """What the pretraining losses need, in float32."""

    mlm_logits: Float[Array, "B P V"]
    nsp_logits: Float[Array, "B 2"] | None


class Bert(nnx.Module):
    """Encoder, masked-language head and, where the config has it, next-sentence head."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        """Draw all parameters from `rngs`."""
        self.encoder = Encoder(config, rngs=rngs)
        self.mlm_head = HEADS[config.head](config, rngs=rngs)
        if config.next_sentence:
            self.nsp_head = NextSentenceHead(config, rngs=rngs)

    def __call__(self, batch: Batch, dropout_key: PRNGKeyArray | None = None) -> Outputs:
        """Logits at the masked positions of a batch (contract C5), and for its sentence pairs.

        Args:
          batch: `input_ids`, `token_type_ids`, `position_ids`, `segment_ids` [B, L] and
            `masked_positions` [B, P].
          dropout_key: None switches dropout off.
        """
        hidden, masked = self._hidden(batch, dropout_key)
        mlm_logits = self.mlm_head.logits(masked, self.encoder.embeddings.tokens.embedding[...])
        has_pairs = hasattr(self, "nsp_head")
        return Outputs(mlm_logits, self.nsp_head(hidden[:, 0]) if has_pairs else None)

    def totals(self, batch: Batch, key: PRNGKeyArray | None = None) -> dict[str, Totals]:
        """Summed losses of a batch: `mlm`, and `nsp` where model and batch have sentence pairs.

        Args:
          batch: as above, with `masked_labels`, `masked_weights` [B, P] and, for pairs,
            `next_sentence_label` [B].
          key: of the step, for dropout and for losses that are drawn; None: neither.
        """
        hidden, masked = self._hidden(batch, key)
        found = {
            "mlm": self.mlm_head.totals(
                masked,
                self.encoder.embeddings.tokens.embedding[...],
                batch["masked_labels"],
                batch["masked_weights"],
                None if key is None else jax.random.fold_in(key, HEAD_STREAM),
            )
        }
        if hasattr(self, "nsp_head") and "next_sentence_label" in batch:
            label = batch["next_sentence_label"]
            weight = (label >= 0).astype(jnp.float32)  # -1 marks the padding rows of an evaluation
            logits = self.nsp_head(hidden[:, 0])
            found["nsp"] = cross_entropy(logits, jnp.maximum(label, 0), weight)
        return found

    def _hidden(
        self, batch: Batch, dropout_key: PRNGKeyArray | None
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B P D"]]:
        """The hidden states of all positions, and those of the masked ones."""
        hidden = self.encoder(
            batch["input_ids"],
            batch["token_type_ids"],
            batch["position_ids"],
            batch["segment_ids"],
            dropout_key,
        )
        return hidden, gather_positions(hidden, batch["masked_positions"])


def gather_positions(
    hidden: Float[Array, "B L D"], positions: Int[Array, "B P"]
) -> Float[Array, "B P D"]:
    """The hidden states at `positions` of each row."""
    return jnp.take_along_axis(hidden, positions[:, :, None], axis=1)


def initialize(config: ModelConfig, key: PRNGKeyArray) -> Params:
    """Freshly drawn parameters in float32, a nested dict that names them as the modules do."""
    _, state = nnx.split(Bert(config, rngs=nnx.Rngs(params=key)), nnx.Param)
    return nnx.to_pure_dict(state)


def abstract(config: ModelConfig) -> tuple[nnx.GraphDef, Params]:
    """The structure of a model, for `nnx.merge(structure, params)`, and the shapes of `params`."""
    model = nnx.eval_shape(lambda: Bert(config, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(model, nnx.Param)
    return graphdef, nnx.to_pure_dict(state)
