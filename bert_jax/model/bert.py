"""The encoder with its pretraining heads, and its parameters as a plain tree."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bert_jax.model.config import ModelConfig
from bert_jax.model.cross_entropy import Totals
from bert_jax.model.encoder import Encoder
from bert_jax.model.heads import HEADS, NextSentenceHead

Batch = Mapping[str, Array]  # on devices; stream.rows.Batch on the host
Params = dict[str, Any]
Build = Callable[..., nnx.Module]  # of (config, rngs=...): `Bert`, or an encoder with other heads
INPUTS = ("input_ids", "token_type_ids", "position_ids", "segment_ids")  # of the encoder, [B, L]
HEAD_STREAM = zlib.crc32(b"head")  # keeps sampled losses independent of the layers' dropout


class Outputs(NamedTuple):
    """Logits of both pretraining heads, in float32."""

    mlm_logits: Float[Array, "B P V"]
    nsp_logits: Float[Array, "B 2"] | None


class Projected(NamedTuple):
    """The encoder's output, and the queries, keys and values of one layer before rotation."""

    hidden: Float[Array, "B L D"]
    projections: Float[Array, "B L 3 N H"]


class Bert(nnx.Module):
    """Encoder, masked-language head and, where the config has it, next-sentence head."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.encoder = Encoder(config, rngs=rngs)
        self.mlm_head = HEADS[config.head](config, rngs=rngs)
        self.nsp_head = NextSentenceHead(config, rngs=rngs) if config.next_sentence else None

    def __call__(self, batch: Batch, dropout_key: PRNGKeyArray | None = None) -> Outputs:
        """Logits at the masked positions of a batch (`stream.rows`), and for its sentence pairs.

        Args:
          batch: `input_ids`, `token_type_ids`, `position_ids`, `segment_ids` [B, L] and
            `masked_positions` [B, P].
          dropout_key: None switches dropout off.
        """
        hidden = self.hidden(batch, dropout_key)
        masked = gather_positions(hidden, batch["masked_positions"])
        return Outputs(
            self.mlm_logits(masked), None if self.nsp_head is None else self.nsp_logits(hidden)
        )

    @property
    def token_table(self) -> Float[Array, "V D"]:
        """The token embeddings, which the masked-language head decodes with (tied)."""
        return self.encoder.embeddings.tokens.embedding[...]

    def hidden(
        self, batch: Batch, dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "B L D"]:
        """The encoder's output for the rows of a batch."""
        ids, types, positions, segments = (batch[name] for name in INPUTS)
        return self.encoder(ids, types, positions, segments, dropout_key)

    def projected(
        self, batch: Batch, layer: int, dropout_key: PRNGKeyArray | None = None
    ) -> Projected:
        """The same, with the queries, keys and values of a layer, counted from 0."""
        encoder = self.encoder
        ids, types, positions, segments = (batch[name] for name in INPUTS)
        x, inputs = encoder.begin(ids, types, positions, segments, dropout_key)
        x = encoder.through(range(layer), x, inputs)
        with jax.named_scope("attention"):
            projections = encoder.layers[layer].projections(x)
        x = encoder.through(range(layer, len(encoder.layers)), x, inputs)
        return Projected(encoder.finish(x), projections)

    def mlm_logits(self, hidden: Float[Array, "B P D"]) -> Float[Array, "B P V"]:
        """Logits over the vocabulary from the hidden states of some positions, in float32."""
        return self.mlm_head.logits(hidden, self.token_table)

    def mlm_totals(
        self, hidden: Float[Array, "B L D"], batch: Batch, key: PRNGKeyArray | None = None
    ) -> Totals:
        """Loss and accuracy of the masked tokens, summed.

        Args:
          hidden: the encoder's output.
          batch: `masked_positions`, `masked_labels`, `masked_weights` [B, P].
          key: of the step, for sampled losses; None: exact losses.
        """
        return self.mlm_head.totals(
            gather_positions(hidden, batch["masked_positions"]),
            self.token_table,
            batch["masked_labels"],
            batch["masked_weights"],
            None if key is None else jax.random.fold_in(key, HEAD_STREAM),
        )

    def nsp_logits(self, hidden: Float[Array, "B L D"]) -> Float[Array, "B 2"]:
        """Logits of (right pair, wrong pair) from the [CLS] of each row.

        Raises:
          ValueError: the model has no next-sentence head.
        """
        if self.nsp_head is None:
            raise ValueError("the model has no next-sentence head (config.model.next_sentence)")
        return self.nsp_head(hidden[:, 0])


def gather_positions(
    hidden: Float[Array, "B L D"], positions: Int[Array, "B P"]
) -> Float[Array, "B P D"]:
    """The hidden states at `positions` of each row."""
    return jnp.take_along_axis(hidden, positions[:, :, None], axis=1)


def initialize(config: ModelConfig, key: PRNGKeyArray, build: Build = Bert) -> Params:
    """Random initial parameters in float32: a nested dict with the modules' names.

    Args:
      config: of the encoder.
      key: they are a function of it.
      build: makes the module, an encoder with its heads.
    """
    _, state = nnx.split(build(config, rngs=nnx.Rngs(params=key)), nnx.Param)
    return nnx.to_pure_dict(state)


def abstract(config: ModelConfig, build: Build = Bert) -> tuple[nnx.GraphDef, Params]:
    """The structure of a model, for `nnx.merge(structure, params)`, and the shapes of `params`."""
    model = nnx.eval_shape(lambda: build(config, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(model, nnx.Param)
    return graphdef, nnx.to_pure_dict(state)
