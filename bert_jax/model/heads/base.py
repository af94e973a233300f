"""The masked-language head with its full softmax, and the same computed block by block."""

from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.config import ModelConfig
from bert_jax.model.cross_entropy import (
    PLAIN,
    Regularizers,
    Totals,
    blocked_cross_entropy,
    cross_entropy,
)
from bert_jax.model.encoder import gelu, linear
from bert_jax.model.norms import make_norm
from bert_jax.model.products import contract


class FullHead(nnx.Module):
    """Transform, GELU, norm; the decoder is the token table (tied) with a bias.

    The logits of all predictions are in memory at once. The other heads differ in the softmax only.

    Attributes:
      is_exportable: whether a class of `transformers` computes the same logits.
      uses_frequency: whether it treats frequent and rare tokens differently, by
        `ModelConfig.token_order`.
      sharding: (regex of a parameter's name, axis of the mesh for each axis of the parameter) for
        parameters that the full head does not have.
    """

    is_exportable: ClassVar[bool] = True
    uses_frequency: ClassVar[bool] = False
    sharding: ClassVar[tuple[tuple[str, tuple[str | None, ...]], ...]] = ()

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.transform = linear(config, config.hidden_size, config.hidden_size, rngs)
        self.norm = make_norm(config, rngs)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    @staticmethod
    def check(config: ModelConfig) -> None:
        """Check the fields of the config that this head uses.

        Raises:
          UserError: names the field, its value and the fix.
        """

    @staticmethod
    def products(config: ModelConfig) -> int:
        """Dot products of width D that the softmax takes for one prediction in training."""
        return config.vocab_size

    def features(self, hidden: Float[Array, "B P D"]) -> Float[Array, "B P D"]:
        """The input of the softmax."""
        return self.norm(gelu(self.transform(hidden))).astype(self.config.dtype)

    def logits(
        self, hidden: Float[Array, "B P D"], table: Float[Array, "V D"]
    ) -> Float[Array, "B P V"]:
        """Logits over the whole vocabulary, in float32."""
        return token_scores(self.features(hidden), table) + self.bias[...]

    def totals(
        self,
        hidden: Float[Array, "B P D"],
        table: Float[Array, "V D"],
        labels: Int[Array, "B P"],
        weights: Float[Array, "B P"],
        key: PRNGKeyArray | None,
    ) -> Totals:
        """Summed loss and number of correct predictions.

        Args:
          hidden: hidden states of the masked positions.
          table: the token embeddings.
          labels: ids of the original tokens.
          weights: 1 for predictions, 0 for unused entries.
          key: the step's key, for sampled losses; None: the exact loss, as in evaluation.
        """
        logits = self.logits(hidden, table)
        return cross_entropy(logits, labels, weights, self.regularizers(key))

    def regularizers(self, key: PRNGKeyArray | None) -> Regularizers:
        """What is added to the loss in training; nothing in evaluation."""
        if key is None:
            return PLAIN
        return Regularizers(self.config.label_smoothing, self.config.z_loss)


class BlockedHead(FullHead):
    """The same function as the full head; the logits of one block of predictions at a time."""

    def totals(self, hidden, table, labels, weights, key):
        x = self.features(hidden)
        loss, correct = blocked_cross_entropy(
            x, table, self.bias[...], labels, weights, self.regularizers(key)
        )
        return Totals(loss, {"accuracy": (correct * weights).sum()}, weights.sum())


def token_scores(x: Float[Array, "B P D"], table: Float[Array, "V D"]) -> Float[Array, "B P V"]:
    """Dot products with each row of a table, accumulated in float32."""
    return contract("bpd,vd->bpv", x, table, x.dtype, jnp.float32)
