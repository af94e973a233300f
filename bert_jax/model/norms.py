"""The normalization of every part of the model; another kind is added here.

Parameters are named `scale` and, where `config.use_bias` is set, `bias`: the sharding, the weight
decay and the Hugging Face names follow from these.
"""

import jax.numpy as jnp
from flax import nnx

from bert_jax.model.config import ModelConfig


def make_norm(config: ModelConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Layer norm over D (https://arxiv.org/abs/1607.06450), always computed in float32."""
    return nnx.LayerNorm(
        config.hidden_size,
        epsilon=config.norm_epsilon,
        use_bias=config.use_bias,
        use_fast_variance=False,  # E[x^2] - E[x]^2 loses precision
        dtype=jnp.float32,
        rngs=rngs,
    )
