"""The head that classifies a pair of sentences."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bert_jax.model.config import ModelConfig
from bert_jax.model.encoder import linear


class NextSentenceHead(nnx.Module):
    """BERT's pooler (dense, tanh on [CLS]) and the two-way classifier, in float32."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        width, dtype = config.hidden_size, jnp.float32
        self.pooler = linear(config, width, width, rngs, dtype=dtype)
        self.classifier = linear(config, width, 2, rngs, dtype=dtype)

    def __call__(self, first: Float[Array, "B D"]) -> Float[Array, "B 2"]:
        """Logits of (is next, is random)."""
        return self.classifier(jnp.tanh(self.pooler(first)))
