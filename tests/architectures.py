"""A small encoder of each family that transformers has a class for."""

import dataclasses

from ml_collections import ConfigDict

from bert_jax.model import ModelConfig

CLASSIC = ModelConfig(
    vocab_size=97,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=64,
    position="learned",
    norm="post",
    feed_forward="gelu",
    use_bias=True,
    token_types=2,
    next_sentence=True,
    norm_epsilon=1e-12,
    dropout=0.1,
    attention_dropout=0.1,
    initializer_range=0.02,
    local_attention=0,
    global_every=1,
    rope_theta=160_000.0,
    local_rope_theta=10_000.0,
    compute_dtype="float32",
)
MODERN = dataclasses.replace(
    CLASSIC,
    num_hidden_layers=3,
    position="rotary",
    norm="pre",
    feed_forward="geglu",
    use_bias=False,
    token_types=0,
    next_sentence=False,
    norm_epsilon=1e-5,
    dropout=0.0,
    attention_dropout=0.0,
    local_attention=16,
    global_every=2,
)


def make_modern(model: ConfigDict) -> None:
    """Turn the `model` group of a run's config into the modern family, with local layers."""
    model.update(
        position="rotary",
        norm="pre",
        feed_forward="geglu",
        use_bias=False,
        token_types=0,
        local_attention=8,
    )
