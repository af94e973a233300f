"""ModernBERT as published: pre-norm, rotary positions, GeGLU, local and global attention.

Paper:     ModernBERT (https://arxiv.org/abs/2412.13663, section 2 and appendix A).
Command:   python -m bert_jax.train --config=configs/modernbert.py:base \\
             --config.corpus.source='text:/data/*.txt' --workdir=runs/modern-base
Sizes:     base (22 x 768), large (28 x 1024); the argument after the colon. base-1024 and
           large-1024 leave out the long rows.
Recipe:    the paper's: StableAdamW, 30 % masking, and its three stages by tokens, with equal tokens
           a step: 1024 tokens a row with a stable learning rate (85 %), 8192 with another rotary
           base and a lower rate (12.5 %), and a decay by 1 - sqrt (2.5 %). The steps are a starting
           point for one node, not the paper's 2 trillion tokens.
Hardware:  the paper: 8 H100, 194 hours to 1.7 T tokens (base), 425 hours (large). Hours and
           held-out figures of this code: not measured.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, modern

# name: layers, width, heads, feed-forward width
SIZES = {
    "base": (22, 768, 12, 1152),
    "large": (28, 1024, 16, 2624),
}

# name: peak learning rate of the first stage, and of the others
RATES = {"base": (8e-4, 3e-4), "large": (5e-4, 5e-5)}


def get_config(arg: str = "base") -> ConfigDict:
    """The published architecture at the size `arg`."""
    size, _, length = (arg or "base").partition("-")
    if size not in SIZES or length not in ("", "1024"):
        raise UserError(
            f"--config=configs/modernbert.py:{arg}: choose base, large, base-1024 or large-1024"
        )
    config = default_config()
    config.total_steps = 100_000
    config.warmup_steps = 3_000
    config.global_batch_size = 512
    config.learning_rate = RATES[size][0]
    config.log_every = 100
    config.eval_every = 5_000
    config.checkpoint_every = 2_000

    config.tokenizer.vocab_size = 50_368

    config.stream.objective = "packed"
    config.stream.mask_rate = 0.3
    config.stream.mask_unit = "token"
    config.stream.mask_replace_prob = 0.8
    config.stream.random_replace_prob = 0.1
    # The short rows have config.global_batch_size.
    short = {"sequence_length": 1024, "rope_theta": 10_000.0}
    long = {"sequence_length": 8192, "global_batch_size": 64, "rope_theta": 160_000.0}
    if length:
        config.stream.phases = ({**short, "until": 1.0},)
    else:
        config.stream.phases = ({**short, "until": 0.85}, {**long, "until": 1.0})
        config.optimizer.restarts = ({"at": 0.85, "peak": RATES[size][1] / RATES[size][0]},)

    model = config.model
    modern(model)
    model.num_hidden_layers, model.hidden_size = SIZES[size][:2]
    model.num_attention_heads, model.intermediate_size = SIZES[size][2:]
    model.max_position_embeddings = 8192
    model.local_attention = 128
    model.global_every = 3
    model.rope_theta = 160_000.0
    model.local_rope_theta = 10_000.0
    model.compute_dtype = "bfloat16"

    optimizer = config.optimizer
    optimizer.name = "stable_adamw"
    optimizer.schedule = "wsd"
    optimizer.decay_steps = 0.025
    optimizer.decay_shape = "sqrt"
    optimizer.final_lr_fraction = 0.0
    optimizer.b1, optimizer.b2 = 0.9, 0.98
    optimizer.epsilon = 1e-6
    optimizer.weight_decay = 1e-5
    optimizer.clip_norm = 0.0
    return config
