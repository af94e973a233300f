"""Small modern encoders in the shapes of Ettin: 17, 32 and 68 million parameters.

Paper:     Ettin (https://arxiv.org/abs/2507.11412, table 1) for the shapes and the three stages of
           masking, 30 % - 15 % - 5 %; ModernBERT (https://arxiv.org/abs/2412.13663) for the rest.
Command:   python -m bert_jax.train --config=configs/small.py:17m \\
             --config.corpus.source='text:/data/*.txt' --workdir=runs/17m
Sizes:     17m (7 x 256), 32m (10 x 384), 68m (19 x 512); the argument after the colon.
Recipe:    1024 tokens with a stable learning rate, 8192 tokens, then a decay (1 - sqrt).
           The steps are a starting point for one node, not the paper's 2 trillion tokens.
Hardware:  any; the mesh uses all devices.
Hours:     public speeds of these shapes on an H100: 985,000, 655,000 and 463,000 tokens a second.
           Not measured with this code.
Expect:    not measured with this code.
"""

from ml_collections import ConfigDict

from bert_jax.common.errors import UserError
from bert_jax.config import default_config, modern

# name: layers, width, heads, feed-forward width
SIZES = {
    "17m": (7, 256, 4, 384),
    "32m": (10, 384, 6, 576),
    "68m": (19, 512, 8, 768),
}


def get_config(arg: str = "17m") -> ConfigDict:
    """The recipe at the size `arg`."""
    size = arg or "17m"
    if size not in SIZES:
        raise UserError(f"--config=configs/small.py:{arg}: choose one of {', '.join(SIZES)}")
    config = default_config()
    config.total_steps = 50_000
    config.warmup_steps = 0.01
    config.global_batch_size = 512
    config.learning_rate = 3e-3
    config.log_every = 100
    config.eval_every = 0.02
    config.checkpoint_every = 0.02

    config.tokenizer.vocab_size = 50_368

    config.stream.objective = "packed"
    short = {"sequence_length": 1024, "rope_theta": 10_000.0, "mask_rate": 0.3}
    long = {"sequence_length": 8192, "global_batch_size": 64, "rope_theta": 160_000.0}
    config.stream.phases = (
        {**short, "until": 0.85},
        {**long, "until": 0.975, "mask_rate": 0.15},
        {**long, "until": 1.0, "mask_rate": 0.05},
    )

    model = config.model
    modern(model)
    model.num_hidden_layers, model.hidden_size = SIZES[size][:2]
    model.num_attention_heads, model.intermediate_size = SIZES[size][2:]
    model.max_position_embeddings = 8192
    model.local_attention = 128
    model.global_every = 3
    model.rope_theta = 160_000.0
    model.local_rope_theta = 10_000.0
    model.compute_dtype = "auto"

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
