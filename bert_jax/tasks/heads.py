"""The encoder with the heads of tasks, laid out as the classes of `transformers` have them.

BERT: the pooler (dense, tanh on [CLS]) for whole rows, nothing for tokens; then a linear map.
ModernBERT: the mean of the tokens for whole rows; dense, GELU and norm; then a linear map.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from bert_jax.model import Batch, ModelConfig, Params
from bert_jax.model.dropout import dropout
from bert_jax.model.encoder import Encoder, gelu, truncated_normal
from bert_jax.model.norms import make_norm
from bert_jax.model.products import Linear
from bert_jax.tasks.crf import Crf

ROW, TOKEN, NONE = "row", "token", "none"


class Head(nnx.Module):
    """Logits of rows or of tokens, in float32."""

    def __init__(
        self,
        config: ModelConfig,
        kind: str,
        outputs: int,
        rate: float,
        *,
        crf: bool = False,
        rngs: nnx.Rngs,
    ):
        """Args:
        config: of the encoder.
        kind: `ROW` or `TOKEN`: what gets logits.
        outputs: logits of each.
        rate: of the dropout before the last map.
        crf: whether the tags of neighbours have scores.
        rngs: of the initial parameters.
        """
        self.config, self.kind, self.rate = config, kind, rate
        self.is_modern = config.norm == "pre"

        def linear(width: int, *, use_bias: bool) -> Linear:
            return Linear(
                (config.hidden_size,),
                (width,),
                use_bias=use_bias,
                dtype=jnp.float32,
                kernel_init=truncated_normal(config.initializer_range),
                rngs=rngs,
            )

        if self.is_modern or kind == ROW:
            self.dense = linear(config.hidden_size, use_bias=config.use_bias)
        if self.is_modern:
            self.norm = make_norm(config, rngs)
        self.classifier = linear(outputs, use_bias=True)
        if crf:
            self.crf = Crf(outputs)

    @jax.named_scope("head")
    def __call__(
        self, hidden: Float[Array, "B L D"], batch: Batch, key: PRNGKeyArray | None
    ) -> Float[Array, "B *L outputs"]:
        """[B, outputs] for rows, [B, L, outputs] for tokens."""
        x = hidden.astype(jnp.float32)
        if self.kind == ROW:
            x = pooled(x, batch, "mean" if self.is_modern else "cls")
        if self.is_modern:
            x = self.norm(gelu(self.dense(x)))
        elif self.kind == ROW:
            x = jnp.tanh(self.dense(x))
        return self.classifier(dropout(x, self.rate, key))


class TaskModel(nnx.Module):
    """An encoder and the heads of one or several tasks, by the task's name."""

    def __init__(self, config: ModelConfig, heads: Mapping[str, Any], *, rngs: nnx.Rngs):
        """Args:
        config: of the encoder.
        heads: by the task's name, a function of (config, rngs) that makes the head; None: none.
        rngs: of the initial parameters.
        """
        self.encoder = Encoder(config, rngs=rngs)
        made = {name: make(config, rngs=rngs) for name, make in heads.items() if make}
        self.heads: Any = nnx.Dict(made) if made else None

    def hidden(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "B L D"]:
        """The encoder's output for rows [B, L]."""
        types = batch["token_type_ids"]
        if self.encoder.config.token_types == 1:  # as RoBERTa: both texts are of the same segment
            types = jnp.zeros_like(types)
        return self.encoder(
            batch["input_ids"],
            types,
            batch["position_ids"],
            batch["segment_ids"],
            key,
        )


def pooled(hidden: Float[Array, "B L D"], batch: Batch, pooling: str) -> Float[Array, "B D"]:
    """A vector a row: of [CLS] (`cls`), or the mean of all tokens (`mean`), in float32."""
    if pooling == "cls":
        return hidden[:, 0].astype(jnp.float32)
    is_text = (batch["segment_ids"] > 0).astype(jnp.float32)[..., None]
    total = (hidden.astype(jnp.float32) * is_text).sum(axis=1)
    return total / jnp.maximum(is_text.sum(axis=1), 1.0)


def flat_rows(batch: Batch) -> Batch:
    """[B, G, L] arrays of tokens as [B * G, L]."""
    return {
        name: array.reshape(-1, array.shape[-1]) if array.ndim == 3 else array
        for name, array in batch.items()
    }


def starting_head(params: Params, pretrained: Params) -> Params:
    """The parameters of heads that pretraining has trained too, in place of random ones.

    The dense map and norm of ModernBERT's prediction head, the pooler of BERT's next-sentence head:
    what `transformers` takes from a pretrained folder as well.
    """
    source: dict[str, Any] = {}
    if "norm" in params:
        if head := pretrained.get("mlm_head"):
            source = {"dense": head["transform"], "norm": head["norm"]}
    elif "dense" in params and pretrained.get("nsp_head"):
        source = {"dense": pretrained["nsp_head"]["pooler"]}
    return {**params, **source}
