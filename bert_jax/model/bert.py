"""The encoder with its pretraining heads, and its parameters as a plain tree."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.config import ModelConfig
from bert_jax.model.encoder import Encoder, gelu, layer_norm, linear
from bert_jax.model.products import contract

Batch = Mapping[str, Array]
Params = dict[str, Any]


class Outputs(NamedTuple):
    """What the pretraining losses need, in float32."""

    mlm_logits: Float[Array, "B P V"]
    nsp_logits: Float[Array, "B 2"] | None


class MaskedLanguageHead(nnx.Module):
    """Transform, GELU, norm, and the token table as the decoder (tied), with a bias of its own."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        """Draw the transform."""
        self.config = config
        self.transform = linear(config, config.hidden_size, config.hidden_size, rngs)
        self.norm = layer_norm(config, rngs)
        self.bias = nnx.Param(jnp.zeros(config.vocab_size))

    def __call__(self, x: Float[Array, "B P D"], tokens: nnx.Embed) -> Float[Array, "B P V"]:
        """Logits over the vocabulary."""
        x = gelu(self.transform(x))
        table = tokens.embedding[...]
        logits = contract("bpd,vd->bpv", self.norm(x), table, self.config.dtype, jnp.float32)
        return logits + self.bias[...]


class NextSentenceHead(nnx.Module):
    """BERT's pooler (dense, tanh on [CLS]) and the two-way classifier, in float32."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        """Draw both maps."""
        width, dtype = config.hidden_size, jnp.float32
        self.pooler = linear(config, width, width, rngs, dtype=dtype)
        self.classifier = linear(config, width, 2, rngs, dtype=dtype)

    def __call__(self, first: Float[Array, "B D"]) -> Float[Array, "B 2"]:
        """Logits of (is next, is random)."""
        return self.classifier(jnp.tanh(self.pooler(first)))


class Bert(nnx.Module):
    """Encoder, masked-language head and, where the config has it, next-sentence head."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        """Draw all parameters from `rngs`."""
        self.encoder = Encoder(config, rngs=rngs)
        self.mlm_head = MaskedLanguageHead(config, rngs=rngs)
        if config.next_sentence:
            self.nsp_head = NextSentenceHead(config, rngs=rngs)

    def __call__(self, batch: Batch, dropout_key: PRNGKeyArray | None = None) -> Outputs:
        """Logits at the masked positions of a batch (contract C5), and for its sentence pairs.

        Args:
          batch: `input_ids`, `token_type_ids`, `position_ids`, `segment_ids` [B, L] and
            `masked_positions` [B, P].
          dropout_key: None switches dropout off.
        """
        hidden = self.encoder(
            batch["input_ids"],
            batch["token_type_ids"],
            batch["position_ids"],
            batch["segment_ids"],
            dropout_key,
        )
        masked = gather_positions(hidden, batch["masked_positions"])
        mlm_logits = self.mlm_head(masked, self.encoder.embeddings.tokens)
        has_pairs = hasattr(self, "nsp_head")
        return Outputs(mlm_logits, self.nsp_head(hidden[:, 0]) if has_pairs else None)


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
